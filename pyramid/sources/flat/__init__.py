"""Images that are decoded as a whole: PNG, JPEG, GIF, and what imageio knows.

open.py        the reader: in this process, or in one of its own
look.py decode.py   what such an image is, and its pixels, by the library that gives them as they are
headers.py     formats that are known from their own headers, for imagecodecs: JPEG 2000, Radiance, textures of halves
others.py      formats that imageio reads: DICOM, SPE, BSDF, Lytro
pnm.py         Netpbm images, PAM and PFM, row by row
npz.py         .npz of one array
array.py       an image that is decoded once, and kept
"""
