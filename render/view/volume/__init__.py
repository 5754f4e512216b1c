"""Views of three axes: what a camera around a volume wants and what each place of it shows. Pure; no pixel is touched.

orbit.py       where such a camera stands, and the way from one orientation to another
around.py      the camera of the numbers that people give, and the turntable
framing.py     how large it is drawn so that all of it is in the frame
sight.py       what it shows of one layer, and the rays of its pixels
frustum.py     which boxes a frame shows, and how near they come
bricks.py      bricks of a lattice as a sight shows them
cut.py         the coarsest that are fine enough and fit
plan.py        which bricks to load, of which levels, in which order
cover.py       what to draw of them with what is there; coverage from counted samples
cells.py       a cover as cells between planes: what a ray walks through
samples.py     which samples of a ray a box owns, counted in numpy
seen.py        what a camera of vispy shows
rate.py        coarser while a camera moves
"""
