"""Volumes in OpenGL: bricks in 3-D textures, and rays through them. Main thread only.

textures.py      3-D textures without PyOpenGL, native formats
brick_slots.py   one page for each part, which grows: book-keeping, no OpenGL
gutters.py       what the border of a brick repeats of the 26 around it; lowest and highest values. Pure
brick_atlas.py   BrickAtlas: uploads of bricks in their gutters
march.py         MarchVisual: one part of a layer, one ray for each pixel, all modes
tables.py        what its shader is told of cells and rays
counting.py      SampleCounter: samples of each kind of row, for coverage
surfaces.py      Surfaces: how deep what hides lies; layers that meet in depth
march.vert march.frag   the shader of march and counting
planes.frag      its rays through planes of a volume
box.py           BoxVisual: outline, ticks, axes mark, failed bricks
box.vert box.frag       its shader
"""
