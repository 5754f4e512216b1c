"""Pyramids and arrays as they are stored: metadata, arrays, chunks. Knows no build and no foreign format.

arrays.py      the only file that opens or creates arrays
place.py       where things lie: one name in a store, and how far what it names may lead
reading.py     reads that have begun, and can be given up
ngff.py        what OME-Zarr metadata say; ngff_write.py   writing them
images.py      every image of a folder: others, labels
chunk_guard.py do chunks decode to what the metadata promise?
zarr_meta.py   what arrays' metadata say, from plain JSON
json_files.py  JSON documents, written in one step
removal.py     the only file that removes anything from disk, or puts one thing in another's place
chunk_files.py where the files of chunks really are: links that lead out of a folder
codecs.py      the words of ``--codec`` (pure)
"""
