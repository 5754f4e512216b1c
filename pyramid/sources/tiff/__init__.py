"""TIFF and what is built on it: OME-TIFF, ImageJ, BigTIFF, slides.

pages.py       the reader: pages and tiles as one array
facts.py       what the tags and metadata say: axes, voxel sizes, channels
values.py      samples to values: palettes, bits, photometric meaning
checks.py      is the file whole?
segments.py    decoded segments that neighbouring reads share
"""
