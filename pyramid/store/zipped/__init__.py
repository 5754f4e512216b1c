"""OME-Zarr in one file: ``.ozx`` and ``.zip`` archives (RFC-9), of this machine or remote.

directory.py  which values an archive holds, and where; archives that cannot be are refused (pure)
archive.py    an archive that is open: a local file, or a value of a remote store
remote_archive.py  one in a remote store
place.py      a name in an archive, as a ``Place``
direct.py     arrays of local archives, read by ranges of bytes in the thread that asks
packing.py    a folder as a new archive
"""
