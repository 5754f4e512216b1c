"""Any SOURCE as one array in canonical axis order (t, c, z, y, x): a small reader for each format.

The way of a source:  source → its reader → protocol.Raw → views (other axes, windows) → ArraySource

source.py      which reader a SOURCE has; ``open_source``
protocol.py    what a reader gives; views.py   other views of it
flat/          images that are decoded as a whole: PNG, JPEG, GIF, .npz, and what imageio knows
hdf5.py        datasets of HDF5 files; hdf5_chunks.py   their chunks, decoded; hdf5_links.py   the other files that they lead to
objects.py     arrays in memory: numpy, dask, zarr, xarray, and whatever slices like them
plain.py       .npy, .npz and headerless files
stored.py      sources in stores other than the file system
zarr_array.py  Zarr arrays and OME-Zarr images
tiff/          TIFF and what is built on it
nodata.py      values that stand for none; scales that are not applied (pure)
attributes.py  what a source says beyond that, kept or named (pure)
measures.py    voxel sizes and units that a user gives, over those of the file (pure)
describe.py    what ``octree info`` says
sample.py      sample images for the demo and the benchmarks
"""
