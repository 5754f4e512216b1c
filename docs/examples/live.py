"""A pyramid in an ordinary window: drag to pan, wheel to zoom.

    python docs/examples/live.py slide.ome.zarr

The node is the pipeline of ``octree render`` in anybody's vispy scene.
"""

import sys

from vispy import app, scene

from octree.render import TiledImage

canvas = scene.SceneCanvas(title="octree", size=(1024, 768), keys="interactive", show=True)
view = canvas.central_widget.add_view()
view.camera = scene.PanZoomCamera(aspect=1)
view.camera.flip = (False, True, False)  # y runs down, as in the image
image = TiledImage(sys.argv[1], parent=view.scene, show_grid="--grid" in sys.argv)
view.camera.set_range((image.extent.x0, image.extent.x1), (image.extent.y0, image.extent.y1), margin=0)

if __name__ == "__main__":
    app.run()
