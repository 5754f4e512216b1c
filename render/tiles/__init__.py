"""Any SOURCE as tiles that a texture takes.

tile_source.py one source as tiles, opened
face.py        its faces: planes of any two axes, another one projected or not, and bricks; what workers read
batches.py     which tiles lie in the same chunks, and are read together (pure)
folding.py     projections, brick by brick (pure)
open_levels.py the levels of a pyramid, or of a source that has none
slab.py        an image without z as one slab of a volume
cancelling.py  reads that end when nobody wants them any more
made_levels.py coarser levels that are not stored, made in memory by the builder's own reductions
made_bricks.py the same for volumes
texels.py      data types as textures take them (pure)
"""
