"""Everything that touches OpenGL. Main thread only.

platform.py    the only file with glfw and ``vispy.use``: OSMesa without a display, hidden window, EGL
library.py     which OpenGL library vispy calls; vispy's modules are imported from here
probe.py       what each platform gives here, each tried in a process of its own
canvas.py      an offscreen framebuffer of exact size: draw, finish, read back
slots.py       which tile sits in which slot of which page: book-keeping, no OpenGL
page.py        one page: a texture with a native format
residents.py   what every atlas is: tiles that are resident, where they are, pins, byte budget
texture_atlas.py            Atlas: uploads by sub-rectangle, gutters from real neighbours
placing.py     vispy's transforms begun near the view, for float32
quads.py       from a cover to vertices (pure)
tiled_image.py TiledImageVisual: tiles as one vispy visual, one draw call for each page
colored.py colors.py        its colours: shader variants and numbers; names, colormaps and label ids as tables
marks.py       failed and pending areas, tile borders
*.vert *.frag  the shaders; colored.frag is a piece of others
volume/        bricks in 3-D textures, and rays through them
"""
