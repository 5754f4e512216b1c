"""Pyramids and arrays as they are stored: metadata, arrays, chunks. Knows no build and no foreign format.

arrays.py      the only file that opens or creates arrays
place.py       where things lie: one name in a store, and how far what it names may lead
named.py       what a user names, a path or a URL, as a place
reading.py     reads that have begun, and can be given up
ngff.py        what OME-Zarr metadata say; ngff_write.py   writing them
doubts.py      levels that lie elsewhere than level 0 (pure)
images.py      every image of a folder: others, labels
shards.py      is the index of a shard whole? (pure)
chunk_codecs.py             what chunks decode to, told before they are decoded (pure)
zarr_meta.py   what arrays' metadata say, from plain JSON
json_files.py  JSON documents, written in one step
remote/        values in object storage and on web servers
zipped/        OME-Zarr in one file
removal.py     the only file that removes anything from disk, or puts one thing in another's place
chunk_files.py the files of chunks, looked at before they are read: links that lead out, sizes that cannot be
codecs.py      the words of ``--codec`` (pure)
"""
