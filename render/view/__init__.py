"""What a view is and what it wants: cameras, plans, covers, coverage. Pure; no pixel is touched.

camera.py      cameras and paths
camera_text.py camera_numbers.py path_file.py    how they are written
built_in_paths.py    paths that have a name
shots.py       cameras, paths and planes of an index: every frame to come
state.py       what is looked at, and what it means for one image
montage.py     where the views of a montage lie, and what three planes through a point show
plan.py        camera + levels → wanted tiles, in loading order
ahead.py       what to load of planes to come, and in which order
film.py        where a run stands among its shots
stand_ins.py   coarser tiles at hand for what is not there yet
parts.py       a frame in parts that fit the atlas
cover.py       wanted tiles + residency → disjoint quads and coverage, in one pass
coverage.py    by what each screen pixel shows
register.py    how layers of different voxel size lie on each other
pace.py        how fast planes are stepped through, measured
motion.py      how fast a view moves, measured
seen.py        what of an image a camera of vispy shows
volume/        the same for three displayed axes
"""
