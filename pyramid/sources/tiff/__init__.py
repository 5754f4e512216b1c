"""TIFF and what is built on it: OME-TIFF, ImageJ, BigTIFF, slides.

pages.py       the reader: pages and tiles as one array
facts.py       what the tags and metadata say: axes, voxel sizes, channels
values.py      samples to values: palettes, bits, photometric meaning
checks.py      is the file whole?
far.py         files in other stores, by ranges of bytes
companions.py  files that tifffile opens by itself
dimensions.py  lengths of pages that would keep tifffile busy for ever
fax.py         fax codes that break off
ifd.py         single tags of single pages
orientation.py pages that stand another way round
missing.py     pixels that count for nothing: nodata values and masks
codecs.py      compressions that are refused, or need a hand
subsampled.py  YCbCr: as RGB, and with colours of a lower resolution
unread.py      other images of the file, inks, scales that are not applied: said in warnings
planes.py      planes that are said to be there and are not
segments.py    decoded segments that neighbouring reads share
"""
