"""A volume in an ordinary window: drag to turn, wheel to zoom, shift and drag to move.

python docs/examples/volume.py stack.ome.zarr
"""

import sys

from vispy import app, scene

from octree.render import TiledVolume

canvas = scene.SceneCanvas(title="octree", size=(1024, 768), keys="interactive", show=True)
view = canvas.central_widget.add_view()
view.camera = scene.TurntableCamera(up="-y", fov=40, azimuth=30, elevation=20)  # y runs down, as in the image
volume = TiledVolume(sys.argv[1], parent=view.scene, mode="mip", interpolation="linear")
view.camera.set_range(*volume.extent)

if __name__ == "__main__":
    app.run()
