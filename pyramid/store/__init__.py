"""Pyramids and arrays as they lie on disk: metadata, arrays, chunks. Knows no build and no foreign format.

arrays.py      the only file that opens or creates arrays
ngff.py        the only file that knows OME-Zarr metadata
images.py      every image of a folder: others, labels
zarr_meta.py   what arrays' metadata say, from plain JSON
json_files.py  JSON on disk in one atomic step
removal.py     the only file that removes anything from disk, or puts one thing in another's place
codecs.py      the words of ``--codec`` (pure)
"""
