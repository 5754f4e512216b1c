"""What is fuzzed: for each way in, inputs to begin with, how they are changed, and what octree does with one.

A target's ``run`` gets the path of a file that holds the input. It may raise ``OctreeError``; anything else it
raises is a finding."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import mutate
import numpy as np

from octree.pyramid.building.journal import Journal
from octree.pyramid.errors import OctreeError, SourceError
from octree.pyramid.foreign import INVISIBLE, markdown, printable, xml_text
from octree.pyramid.foreign import json_text as safe_json
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.limits import Limits
from octree.pyramid.model import Box
from octree.pyramid.sources.describe import describe
from octree.pyramid.sources.source import open_source
from octree.pyramid.verify.run import verify
from octree.render.check.baseline import BaselineStore, parse_manifest
from octree.render.check.record import read_record
from octree.render.check.spec import load_suite
from octree.render.config import load_settings
from octree.render.view.camera import Camera, CameraPath
from octree.render.view.camera_text import is_volume_camera, parse_camera
from octree.render.view.path_file import is_around_volume, read_path, read_path_around
from octree.render.view.register import ToBase
from octree.render.view.volume.framing import Framed
from octree.render.view.volume.plan import plan_volume, step_of
from octree.render.view.volume.sight import rays_of, sight_of

ROOT = Path(__file__).resolve().parents[2]
FIXTURES, STORED = ROOT / "fixtures", ROOT / "tests" / "fuzz"
Change = Callable[[bytes, Random], bytes]
PIXELS = 48
LIMITS = Limits(max_pixels=1 << 26, max_decoded_bytes=256 << 20)


@dataclass(frozen=True)
class Target:
    """``file``: what the input is called in a folder that ``around`` has prepared."""

    name: str
    file: str
    seeds: Callable[[], list[bytes]]
    change: Change
    run: Callable[[Path], None]
    around: Callable[[Path], None] = field(default=lambda folder: None)


def read(path: Path) -> None:
    """As ``octree info``, then the first pixels, as ``octree render`` would."""
    describe(path, limits=LIMITS)
    with open_source(path, limits=LIMITS) as source:
        source.read(Box((0,) * len(source.shape), tuple(min(length, PIXELS) for length in source.shape)))


def _fixtures(*patterns: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for pattern in patterns for path in sorted(FIXTURES.glob(pattern))]


def _pictures() -> list[bytes]:
    from PIL import Image

    made = []
    for mode, formats in (
        ("RGB", ("PNG", "JPEG", "GIF", "BMP", "WEBP", "JPEG2000", "TGA", "PPM")),
        ("L", ("PNG", "ICO")),
    ):
        image = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)).convert(mode)
        for name in formats:
            stream = io.BytesIO()
            image.save(stream, name)
            made.append(stream.getvalue())
    return [*made, *_fixtures("*.png")()]


def _tiffs() -> list[bytes]:
    import tifffile

    made = []
    for options in ({}, {"tile": (16, 16), "compression": "zlib"}, {"compression": "jpeg", "tile": (16, 16)}):
        stream = io.BytesIO()
        tifffile.imwrite(
            stream, np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3), photometric="rgb", **options
        )
        made.append(stream.getvalue())
    return [*made, *_fixtures("*.tif")()]


def _ome_tiffs() -> list[bytes]:
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        np.zeros((2, 3, 16, 16), np.uint8),
        ome=True,
        metadata={"axes": "CZYX", "Channel": {"Name": ["a", "b"]}},
    )
    return [stream.getvalue(), *_fixtures("*.ome.tif")()]


def _ome_xml(data: bytes, random: Random) -> bytes:
    """The XML of an OME-TIFF changes, keeping its length where it can."""
    start, end = data.find(b"<OME"), data.find(b"</OME>")
    if start < 0 or end < 0 or random.random() < 0.4:
        return mutate.tiff(data, random)
    xml = mutate.text(data[start:end], random)
    return data[:start] + xml[: end - start].ljust(end - start) + data[end:]


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npys() -> list[bytes]:
    arrays = [
        np.zeros((6, 7), np.uint8),
        np.zeros((2, 3, 4), ">f4"),
        np.zeros((3, 3), bool),
        np.zeros(2, [("a", "i4")]),
    ]
    return [*map(_npy, arrays), *_fixtures("*.npy")()]


def _npzs() -> list[bytes]:
    made = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, image=np.zeros((6, 7), np.uint8))
        made.append(stream.getvalue())
    return made


def _hdf5s() -> list[bytes]:
    import h5py

    made = []
    for name, options in (("a", {"chunks": (4, 4), "compression": "gzip"}), ("g/b", {})):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.create_dataset(name, data=np.zeros((8, 8), np.uint16), **options)
        made.append(stream.getvalue())
    return [*made, *_fixtures("*.h5")()]


def _bsdfs() -> list[bytes]:
    """Of the formats that imageio alone knows, and takes by their names."""
    import imageio.v3 as imageio

    return [imageio.imwrite("<bytes>", np.arange(48, dtype=np.uint8).reshape(4, 4, 3), extension=".bsdf")]


def _dicoms() -> list[bytes]:
    """The same; its plug-in wants the folder as well, so that these are refused, but only once they are parsed."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        length = (
            bytes(2) + len(value).to_bytes(4, "little") if kind == b"OW" else len(value).to_bytes(2, "little")
        )
        return group.to_bytes(2, "little") + number.to_bytes(2, "little") + kind + length + value

    whole = {0x0002: 1, 0x0010: 4, 0x0011: 4, 0x0100: 16, 0x0101: 16, 0x0102: 15, 0x0103: 0}
    head = element(2, 0x0010, b"UI", b"1.2.840.10008.1.2.1\0")
    body = element(8, 0x0060, b"CS", b"MR")
    body += b"".join(
        element(0x28, number, b"US", value.to_bytes(2, "little")) for number, value in whole.items()
    )
    body += element(0x7FE0, 0x0010, b"OW", bytes(range(32)))
    return [bytes(128) + b"DICM" + element(2, 0, b"UL", len(head).to_bytes(4, "little")) + head + body]


def _folder(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copytree(FIXTURES / name, folder, dirs_exist_ok=True) and None


def _pyramid(folder: Path) -> None:
    """A small OME-Zarr 0.5 of ours."""
    from octree.pyramid import build

    shutil.rmtree(folder)
    build(np.arange(2 * 40 * 40, dtype=np.uint16).reshape(2, 40, 40), folder, axes="cyx", tile=16, workers=1)


def _pyramid_metadata() -> list[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "a")
        folder.mkdir()
        _pyramid(folder)
        return [(folder / "zarr.json").read_bytes()]


def _parent(run: Callable[[Path], None], up: int = 0) -> Callable[[Path], None]:
    return lambda path: run(path.parents[up])


def _check(path: Path) -> None:
    verify(str(path), sample=2, workers=1, limits=LIMITS)


def _pyramid_run(path: Path) -> None:
    with suppress(OctreeError):
        read(path)
    _check(path)


def _camera(path: Path) -> None:
    text = _text(path)
    volume = _VOLUME if is_volume_camera(text) else None
    _drawn(parse_camera(text, extent=(640.0, 480.0), size_px=(64, 48), volume=volume))


def _path(path: Path) -> None:
    _drawn(read_path_around(path, _VOLUME, (64, 48)) if is_around_volume(path) else read_path(path))


def _drawn(view: Camera | CameraPath) -> None:
    """The rays and bricks of a volume's frames, the first few."""
    cameras = [camera for _, camera in view.frames()[:3]] if isinstance(view, CameraPath) else [view]
    for camera in cameras:
        if camera.orbit is not None:
            extent, same = _VOLUME.region, ToBase((1.0,) * 3, (0.0,) * 3)
            sight = sight_of(camera, (64, 48), to_base=same, world=_VOLUME.world, extent=extent)
            plan = plan_volume(_BRICKS, sight, max_tiles=100)
            rays = rays_of(sight, step_of(_BRICKS, sight, plan))
            assert all(map(math.isfinite, (*rays.origin, *rays.step, rays.first_k, rays.stop_k)))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _journal(path: Path) -> None:
    journal, done = Journal.load(path, "a", lambda record: True, lambda record: True)
    journal.close()
    len(done.tasks)


def _manifest(path: Path) -> None:
    BaselineStore(path.parent).find("a", "llvmpipe", "default")
    with suppress(ValueError, RecursionError):
        parse_manifest(path.read_bytes())


def _report(path: Path) -> None:
    """Whatever a file says, what is written of it is harmless and whole."""
    from xml.etree import ElementTree

    given = _text(path)
    element = ElementTree.Element("a", {"b": xml_text(given)})
    ElementTree.fromstring(ElementTree.tostring(element))
    for made in (printable(given), markdown(given), safe_json({given: given})):
        if INVISIBLE.search(made) or re.search(r"^\s*::|##\w*\[", made):
            raise AssertionError(f"not harmless: {made!a}")
    json.loads(safe_json(given))
    str(SourceError(given).to_json())


_SETTINGS = b"""{"loader_defaults": {"log_path": null, "num_workers": 4, "auto_sync_ms": "30ms"}, "octree": {"enabled": true,
"tile_size": 256, "loaders": {"0": {"num_workers": 4}, "2": {"delay_queue_ms": 0}}}, "render": {"cache_bytes": "1GiB"}}"""
_TURN = b'{"loop": true, "keyframes": [{"t_s": 0, "azimuth": 0, "zoom": 1}, {"t_s": 2, "elevation": 9, "z": 2, "fov": 4}]}'
_PATH = b'{"fps": 30, "keyframes": [{"t_s": 0, "x": 1, "y": 2, "zoom": 1}, {"t_s": 2, "x": 9, "y": 2, "zoom": 4}], "easing": "smooth"}'
_SUITE = b"""[defaults]
size = "64x48"
options = { clim = "0,100", colormap = "viridis" }
[[case]]
name = "one"
source = ["a.zarr", "b.zarr"]
camera = "x=1,y=2,zoom=0.5"
masks = [[0, 0, 5, 6]]
tolerance = { max_delta = 2, budget = 0.5 }
frames = [0, 7]
repeat = 2
compare = ["tiles"]
options = { clock = "virtual", latency = "50ms", channels = "0:red:1-2,1:green", index = "t=1", gamma = [1, 2] }
"""
_MANIFEST = b"""{"schema": "octree-baselines/1", "baselines": {"default/a": {"fingerprint": "x", "files": {
"record.json": {"sha256": "ab", "bytes": 3}, "frame-0000.png": {"sha256": "cd", "bytes": 4, "size_px": [1, 2]}}}}}"""
_JOURNAL = b"""{"octree_journal": 3, "build": "abc", "aside": false, "dest": "a", "facts": {"a": [1, 2]}}
[0, 0, 10, 20, 1, "ab12", []]
[0, 1, 10, 20, 1, "ab12", [{"start": [0], "stop": [5], "error": "x"}]]
[1, 0, 10, 20, 1, "ab12", []]
"""
_VOLUME = Framed(Region((0.0,) * 3, (64.0, 480.0, 640.0)))
_BRICKS = Lattice(
    tuple(
        LatticeLevel((64 // n, 480 // n, 640 // n), (64,) * 3, (float(n),) * 3, (0.0,) * 3) for n in (1, 2, 4)
    )
)
_CAMERAS = [b"fit", b"x=1,y=2,zoom=0.5,name=a", b"rect=0,0,10,10", b"zoom-in", b"tour"]
_CAMERAS += [b"azimuth=30,elevation=20,roll=5,fov=40,zoom=2", b"azimuth=1,x=1,y=2,z=3,name=a", b"turntable"]


def _records() -> list[bytes]:
    return [
        path.read_bytes()
        for path in sorted((ROOT / "tests" / "baselines" / "default").glob("*/record.json"))[:2]
    ]


def _metadata(name: str, file: str) -> Callable[[], list[bytes]]:
    return lambda: [(FIXTURES / name / file).read_bytes()]


TARGETS = (
    Target("tiff", "a.tif", _tiffs, mutate.tiff, read),
    Target("ome-tiff", "a.ome.tif", _ome_tiffs, _ome_xml, read),
    Target("flat", "a.png", _pictures, mutate.some_bytes, read),
    Target("npy", "a.npy", _npys, mutate.headed, read),
    Target("npz", "a.npz", _npzs, mutate.archive, read),
    Target("hdf5", "a.h5", _hdf5s, mutate.some_bytes, read),
    Target("exotic", "a.bsdf", _bsdfs, mutate.some_bytes, read),
    Target("dicom", "a.dcm", _dicoms, mutate.some_bytes, read),
    Target("raw", "a.raw", lambda: [bytes(64)], mutate.some_bytes, read),
    Target(
        "zarr2",
        ".zarray",
        _metadata("plane.zarr2", ".zarray"),
        mutate.json_text,
        _parent(read),
        _folder("plane.zarr2"),
    ),
    Target(
        "zarr2-chunk",
        "0.0",
        _metadata("plane.zarr2", "0.0"),
        mutate.some_bytes,
        _parent(read),
        _folder("plane.zarr2"),
    ),
    Target(
        "zarr3",
        "zarr.json",
        _metadata("plane.zarr3", "zarr.json"),
        mutate.json_text,
        _parent(read),
        _folder("plane.zarr3"),
    ),
    Target(
        "zarr3-chunk",
        "c/0/0",
        _metadata("plane.zarr3", "c/0/0"),
        mutate.some_bytes,
        _parent(read, 2),
        _folder("plane.zarr3"),
    ),
    Target(
        "ome-zarr4",
        ".zattrs",
        _metadata("others.ome.zarr", ".zattrs"),
        mutate.json_text,
        _parent(_pyramid_run),
        _folder("others.ome.zarr"),
    ),
    Target("ome-zarr5", "zarr.json", _pyramid_metadata, mutate.json_text, _parent(_pyramid_run), _pyramid),
    Target(
        "settings", "a.json", lambda: [_SETTINGS], mutate.json_text, lambda path: void(load_settings(path))
    ),
    Target("camera", "a.txt", lambda: _CAMERAS, mutate.text, _camera),
    Target("path", "a.json", lambda: [_PATH, _TURN], mutate.json_text, _path),
    Target("suite", "a.toml", lambda: [_SUITE], mutate.text, lambda path: void(load_suite(path))),
    Target("manifest", "manifest.json", lambda: [_MANIFEST], mutate.json_text, _manifest),
    Target("record", "record.json", _records, mutate.json_text, lambda path: void(read_record(path))),
    Target("journal", "a.journal", lambda: [_JOURNAL], mutate.lines, _journal),
    Target(
        "report",
        "a.txt",
        lambda: [b"a\n::error::b", b"![x](y) @z <b> `c` | d", b"\x1b[31m\xff"],
        mutate.text,
        _report,
    ),
)


def void(_: object) -> None:
    """What was made is not needed."""


def stored(target: Target) -> list[bytes]:
    """Inputs that once went wrong."""
    return [path.read_bytes() for path in sorted((STORED / target.name).glob("*")) if path.is_file()]
