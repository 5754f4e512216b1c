"""Small files that ask for a lot of memory, each from a program with no input: what tests of limits open.

The command's peak memory is measured from outside, its children included.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from PIL import Image

MIB = 2**20

_MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
sys.stderr.buffer.write(done.stderr)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


class Measured:
    """What became of one command: exit code, stderr, and the most memory that a process of it held."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "octree.cli", *map(str, arguments)]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        code, peak = done.stdout.split()
        self.code, self.peak_bytes, self.stderr = int(code), int(peak), done.stderr

    def beyond(self, bare: Measured) -> int:
        """Bytes that it held more than ``bare``."""
        return self.peak_bytes - bare.peak_bytes


@cache
def bare(command: str, folder: Path) -> Measured:
    """The same command on an image of a few pixels."""
    file = folder / "bare.png"
    Image.new("RGB", (64, 48)).save(file)
    if command == "verify":
        bare("build", folder)
        file = folder / "bare.zarr"
    outputs: dict[str, tuple[object, ...]] = {
        "info": (),
        "verify": (),
        "build": (folder / "bare.zarr",),
        "render": ("-o", folder / "bare-out.png", "--size", "64x48"),
    }
    done = Measured(command, file, *outputs[command])
    assert done.code == 0, done.stderr
    return done


def tiff(tags: dict[int, tuple[int, int, bytes | int]], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of one page; ``tags`` are (type, count, value or bytes). Offset 8 is where ``pixels`` lie."""
    out = bytearray(b"II*\0" + struct.pack("<I", 0) + pixels)
    out += b"\0" * (len(out) % 2)
    entries = b""
    for tag, (kind, count, value) in sorted(tags.items()):
        if isinstance(value, bytes) and len(value) > 4:
            place = len(out)
            out += value + b"\0" * (len(value) % 2)
            value = place
        raw = value.ljust(4, b"\0") if isinstance(value, bytes) else struct.pack("<I", value)
        entries += struct.pack("<HHI", tag, kind, count) + raw
    struct.pack_into("<I", out, 4, len(out))
    out += struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return bytes(out)


def page(
    width: int, height: int, compression: int, pixels: bytes, **more: tuple[int, int, bytes | int]
) -> bytes:
    """One tile of 8-bit grey that is the whole image."""
    tags: dict[int, tuple[int, int, bytes | int]] = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, compression), 262: (3, 1, 1),
        277: (3, 1, 1), 322: (4, 1, width), 323: (4, 1, height), 324: (4, 1, 8), 325: (4, 1, len(pixels)),
    }  # fmt: skip
    return tiff(tags | {int(tag[1:]): value for tag, value in more.items()}, pixels)


def jpeg_of(width: int, height: int) -> bytes:
    """A small grey JPEG whose header says another size."""
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    place = data.find(b"\xff\xc0")
    struct.pack_into(">HH", data, place + 5, height, width)
    return bytes(data)


def png_of(width: int, height: int) -> bytes:
    """Black of 1 bit, compressed row by row: what it takes to be a whole PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), bytes(1 + -(-width * 3 // 1))
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif_of(width: int, height: int, frames: int) -> bytes:
    """Frames of one pixel on a large canvas, which a reader composes."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\x04\x04\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    return head + frame * frames + b";"


def icns_of(inner: bytes) -> bytes:
    entry = b"ic07" + struct.pack(">I", len(inner) + 8) + inner
    return b"icns" + struct.pack(">I", len(entry) + 8) + entry


def blp_of(inner: bytes, width: int, height: int) -> bytes:
    """A BLP1 whose picture is a JPEG of another size."""
    head = b"BLP1" + struct.pack("<iIIIii", 0, 0, width, height, 5, 0)
    offsets = struct.pack("<16I", 160 + 2, *[0] * 15) + struct.pack("<16I", len(inner) - 2, *[0] * 15)
    return head + offsets + struct.pack("<I", 2) + inner[:2] + inner[2:]


def npz_of(shape: tuple[int, ...], dtype: str = "u1") -> bytes:
    """Zeros that were never in memory."""
    buffer = io.BytesIO()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("image.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(head.getvalue())
        for _ in range(count // MIB):
            stream.write(bytes(MIB))
        stream.write(bytes(count % MIB))
    return buffer.getvalue()


def ome_tiff_of(sizes: str) -> bytes:
    """A page of 8 x 8, and OME-XML that says what ``sizes`` says."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" {sizes}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    ).encode()
    pixels = bytes(64)
    tags: dict[int, tuple[int, int, bytes | int]] = {
        256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 270: (2, len(xml) + 1, xml + b"\0"),
        273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 8), 279: (4, 1, 64),
    }  # fmt: skip
    return tiff(tags, pixels)


def zeros(pack: Callable[[bytes], bytes], flush: Callable[[], bytes], count: int) -> bytes:
    """``count`` zeros through a compressor, a mebibyte at a time."""
    return b"".join(pack(bytes(MIB)) for _ in range(count // MIB)) + flush()


def deflated(count: int, wbits: int = 15) -> bytes:
    packer = zlib.compressobj(9, wbits=wbits)
    return zeros(packer.compress, packer.flush, count)


def xz(count: int) -> bytes:
    packer = lzma.LZMACompressor(preset=1)
    return zeros(packer.compress, packer.flush, count)


def zarr_v2(
    folder: Path, compressor: dict[str, Any] | None, chunk: bytes, shape: tuple[int, int] = (64, 64)
) -> Path:
    """An array of one chunk, which is ``chunk``."""
    folder.mkdir()
    meta = {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "|u1", "compressor": compressor, "fill_value": 0,
        "filters": None, "order": "C", "dimension_separator": ".",
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(meta))
    (folder / "0.0").write_bytes(chunk)
    return folder


def zarr_v3(folder: Path, codecs: list[dict[str, Any]], chunk: bytes, shard: bool = False) -> Path:
    """An array of one chunk of 64 x 64, which is ``chunk``; with ``shard`` inside of a shard."""
    (folder / "c/0").mkdir(parents=True)
    chain: list[dict[str, Any]] = [{"name": "bytes"}, *codecs]
    if shard:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": [64, 64], "codecs": chain, "index_codecs": index, "index_location": "end"}
        chain = [{"name": "sharding_indexed", "configuration": inner}]
        place = struct.pack("<QQ", 0, len(chunk))
        chunk += place + struct.pack("<I", google_crc32c.value(place))
    meta = {
        "zarr_format": 3, "node_type": "array", "shape": [64, 64], "data_type": "uint8", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64]}},
        "chunk_key_encoding": {"name": "default"}, "codecs": chain, "attributes": {},
    }  # fmt: skip
    (folder / "zarr.json").write_text(json.dumps(meta))
    (folder / "c/0/0").write_bytes(chunk)
    return folder


def pyramid(array: Path) -> Path:
    """An OME-Zarr of one level, which is ``array``."""
    group = array.with_name(array.name + ".ome.zarr")
    group.mkdir()
    array.rename(group / "0")
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    image = {"name": "a", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    if (group / "0/zarr.json").exists():
        ome = {"version": "0.5", "multiscales": [image]}
        node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
        (group / "zarr.json").write_text(json.dumps(node))
    else:
        (group / ".zgroup").write_text('{"zarr_format": 2}')
        (group / ".zattrs").write_text(json.dumps({"multiscales": [{"version": "0.4", **image}]}))
    return group


def hdf5(file: Path, chunk: bytes, dtype: str = "u1", **filters: Any) -> Path:
    """A dataset of one chunk of 64 x 64, which is ``chunk``."""
    import h5py

    with h5py.File(file, "w") as out:
        dataset = out.create_dataset("image", (64, 64), dtype, chunks=(64, 64), **filters)
        dataset.id.write_direct_chunk((0, 0), chunk)
    return file
