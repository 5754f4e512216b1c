"""Values in object storage and on web servers: ``s3://``, ``gs://``, ``az://``, ``https://``.

options.py      how stores are reached (pure)
url.py          what a URL names, and which are refused (pure)
credentials.py  whose name requests go under: environment, profile, nobody
counts.py       what requests have cost
faults.py       what a request that failed means, and whether it is tried again (pure)
client.py       the only file that asks obstore; one event loop for the process
zarr_engine.py  arrays with codecs that only the zarr library knows
place.py        a name in such a store, as a ``Place``

Arrays by ranges of bytes:

ranges.py       which bytes to ask for, so that many pieces come in few requests (pure)
indices.py      where the chunks of a shard lie
decoding.py     bytes of a chunk to its voxels (pure)
assembling.py   chunks to a box, and errors that name them (pure)
reader.py       reads that are begun together, planned together, given up
staging.py      arrays that are written: encoded in memory, one request for each shard
"""
