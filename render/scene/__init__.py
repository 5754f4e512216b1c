"""What is drawn together: layers, and the pipeline they share. Main thread.

pipeline.py    the one owner of loader, cache and atlas, shared by all views: what is read, kept, uploaded
sources.py     the sources of a request, opened; ``start`` makes their scene
scene.py       the frame of ``octree render``: a view of a pipeline
cells.py montage.py         several views in one frame: what each shows; scenes on panes of the canvas
stage.py       what both are to the frame loop
frame.py       one drawn frame, as values
keys.py        where the parts of a layer stand, and the keys of their tiles
tile_layer.py  what all layers share: keys, wishes, what is there of them
layer.py       a layer of planes: its plan, its uploads, its cover
slice_request.py            one step to another plane: its states; pure
slices.py      the requests of a pipeline, and what became of them
stepping.py playing.py      views that step together; which plane is shown when an axis is played (pure)
ahead.py       what a view will show next, loaded meanwhile
shown.py       what a frame showed of a layer, its parts added up
volume/        layers of volumes
overview.py    the inset: one more layer
look.py contrast.py         colours and contrast limits of each part of a layer
"""
