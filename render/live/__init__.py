"""Nodes for anybody's vispy scene: the same pipeline, with any camera. On the thread of vispy's event loop.

node.py        what all of them do: turns, steps along axes, waiting, sleeping
image.py       ``TiledImage``: a plane
volume.py      ``TiledVolume``: a volume
"""

from octree.render.live.image import TiledImage
from octree.render.live.volume import TiledVolume

__all__ = ["TiledImage", "TiledVolume"]
