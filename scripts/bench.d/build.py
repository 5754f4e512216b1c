"""Building against the practical floor and peers: whole processes, start-up included, in turns.

Prints Markdown. Data and peers' environment lie in bench-results/work (made on the first run).
Usage: build.py [--size 16384] [--repeats 3] [--quick]    (--quick leaves out the slow peers)
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from _measure import measure

WORK = Path("bench-results/work")
PEERS = WORK / "peers/bin/python"
OCTREE = [sys.executable, "-m", "octree.cli", "build"]

MAKE = """
import sys, numpy as np, tensorstore as ts
n, path = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(1)
meta = {'shape': [n, n], 'chunks': [512, 512], 'dtype': '<u2', 'compressor': {'id': 'zstd', 'level': 1}}
a = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': path + '/'}, 'metadata': meta}, create=True).result()
for y in range(0, n, 2048):
    yy, xx = np.arange(y, min(y + 2048, n))[:, None], np.arange(n)[None]
    mean = 2000 + 1500 * np.sin(xx / 190.) * np.cos(yy / 310.) + 400 * np.sin(xx * yy / 1e6)
    a[y:y + 2048].write(rng.poisson(np.maximum(mean, 1)).astype('u2')).result()
"""

FLOOR = """
import sys, tensorstore as ts
from concurrent.futures import ThreadPoolExecutor
src, dst = sys.argv[1:3]
s = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': src + '/'}}).result()
n = s.shape[0]
def make(k, edge):
    inner = {'chunk_shape': [256, 256], 'codecs': [{'name': 'bytes', 'configuration': {'endian': 'little'}},
             {'name': 'zstd', 'configuration': {'level': 1}}],
             'index_codecs': [{'name': 'bytes', 'configuration': {'endian': 'little'}}, {'name': 'crc32c'}]}
    meta = {'shape': [n >> k] * 2, 'data_type': 'uint16', 'fill_value': 0,
            'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [edge, edge]}},
            'codecs': [{'name': 'sharding_indexed', 'configuration': inner}]}
    return ts.open({'driver': 'zarr3', 'kvstore': {'driver': 'file', 'path': f'{dst}/{k}/'}, 'metadata': meta}, create=True).result()
levels = [make(k, 2048 >> k) for k in range(4)]
def task(at):
    y, x = at
    block, writes = s[y:y + 2048, x:x + 2048].read().result(), []
    for k in range(4):
        e = 2048 >> k
        writes.append(levels[k][y >> k:(y >> k) + e, x >> k:(x >> k) + e].write(block, can_reference_source_data_indefinitely=True))
        if k < 3:
            block = ts.downsample(ts.array(block), [2, 2], 'mean').read().result()
    for w in writes:
        w.result()
with ThreadPoolExecutor(3) as pool:
    list(pool.map(task, [(y, x) for y in range(0, n, 2048) for x in range(0, n, 2048)]))
"""

LEVELS = """
import sys, tensorstore as ts
src, dst = sys.argv[1:3]
a = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': src + '/'}}).result()
k = 0
while True:
    meta = {'shape': list(a.shape), 'data_type': 'uint16', 'fill_value': 0,
            'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [256, 256]}},
            'codecs': [{'name': 'bytes', 'configuration': {'endian': 'little'}}, {'name': 'zstd', 'configuration': {'level': 1}}]}
    out = ts.open({'driver': 'zarr3', 'kvstore': {'driver': 'file', 'path': f'{dst}/{k}/'}, 'metadata': meta}, create=True).result()
    for y in range(0, a.shape[0], 2048):
        rows = slice(y, min(y + 2048, a.shape[0]))
        out[rows].write(a[rows]).result()
    if max(a.shape) <= 256:
        break
    a, k = ts.downsample(out, [2, 2], 'mean'), k + 1
"""

TIFF = """
import sys, numpy as np, tifffile, tensorstore as ts
src, dst = sys.argv[1:3]
a = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': src + '/'}}).result().read().result()
tifffile.imwrite(dst, a, tile=(256, 256), bigtiff=True, photometric='minisblack')
"""

OME_ZARR = """
import sys, dask.array as da, zarr
from ome_zarr.writer import write_image
from ome_zarr.scale import Scaler
image = da.from_zarr(sys.argv[1])
group = zarr.open_group(sys.argv[2], mode='w')
try:
    write_image(image, group, axes='yx', scale_factors=[2, 4, 8, 16, 32, 64], method='local_mean')
except TypeError:
    write_image(image, group, axes='yx', scaler=Scaler(method='local_mean', max_layer=6))
"""


def peers_ready() -> bool:
    """Peers in an environment of their own; False when they cannot be installed here."""
    if not PEERS.exists():
        done = subprocess.run([sys.executable, "-m", "venv", WORK / "peers"], check=False)
        packages = [
            "ome-zarr",
            "ngff-zarr[cli,tifffile]",
            "tifffile",
            "imagecodecs",
            "pyvips",
            "pyvips-binary",
        ]
        pip = [WORK / "peers/bin/pip", "install", "-q", *packages]
        if done.returncode or subprocess.run(pip, check=False, stdout=subprocess.DEVNULL).returncode:
            shutil.rmtree(WORK / "peers", ignore_errors=True)
            return False
    return True


def source_of(edge: int) -> Path:
    """The image of ``edge`` squared, made on the first call."""
    path = WORK / f"noise-{edge}.zarr"
    if not path.exists():
        subprocess.run([sys.executable, "-c", MAKE, str(edge), path], check=True)
    return path


def rows(arguments: argparse.Namespace) -> list[tuple[str, list[object], list[object], int]]:
    """(name, peer's command, octree's command, repeats), with their inputs made."""
    n, out, mine = arguments.size, WORK / "peer-out.ome.zarr", WORK / "octree-out"
    source, tiff, small = source_of(n), WORK / f"noise-{n}.tif", WORK / "noise-8192.tif"
    python, repeats = sys.executable, arguments.repeats
    for path, zarr in ((tiff, source), (small, source_of(8192))):
        if not path.exists():
            subprocess.run([python, "-c", TIFF, zarr, path], check=True)
    ours = [*OCTREE, source, mine]
    table = [
        ("bare fused TensorStore loop, 3 threads", [python, "-c", FLOOR, source, out], ours, repeats),
        ("TensorStore level by level, downsample driver", [python, "-c", LEVELS, source, out], ours, repeats),
    ]
    if vips := shutil.which("vips"):  # Debian: libvips-tools; the wheels come without zstd
        asked = "--tile --pyramid --compression zstd --level 1 --bigtiff --tile-width 256 --tile-height 256"
        command = [vips, "tiffsave", tiff, out, *asked.split()]
        table.append(("libvips tiffsave, zstd, from TIFF", command, [*OCTREE, tiff, mine], repeats))
    if not arguments.quick and peers_ready():
        ngff = [PEERS, "-c", "from ngff_zarr.cli import main; main()"]
        table.append(("ome-zarr-py write_image, local mean", [PEERS, "-c", OME_ZARR, source, out], ours, 1))
        table.append(("ngff-zarr, 8192² TIFF", [*ngff, "-i", small, "-o", out], [*OCTREE, small, mine], 1))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    out, mine = WORK / "peer-out.ome.zarr", WORK / "octree-out"
    print(f"Source: {arguments.size}² uint16, Poisson noise on smooth structure, 512² zstd chunks; whole processes,\n"
          "start-up included, in turns; the ratio is the median over pairs of runs.\n")  # fmt: skip
    print("| against | its seconds | its MiB | octree seconds | octree MiB | ratio of time |")
    print("|---|---|---|---|---|---|")
    for name, theirs, ours, repeats in rows(arguments):
        pairs = []
        for _ in range(repeats):
            a, b = measure(theirs, out), measure(ours, mine)
            if a and b:
                pairs.append((a, b))
        if not pairs:
            print(f"| {name} | failed here | | | | |")
            continue
        middle = [
            statistics.median(v) for v in zip(*[(a[0], a[1], b[0], b[1]) for a, b in pairs], strict=True)
        ]
        ratio = statistics.median(b[0] / a[0] for a, b in pairs)
        print(
            f"| {name} | {middle[0]:.2f} | {middle[1]:.0f} | {middle[2]:.2f} | {middle[3]:.0f} | {ratio:.2f} |",
            flush=True,
        )
    more(arguments, mine)


def more(arguments: argparse.Namespace, mine: Path) -> None:
    """Cores, methods and sizes, octree alone."""
    source = source_of(arguments.size)
    print("\n| octree alone | seconds | MiB |\n|---|---|---|")
    one_core: list[object] = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    cases: list[tuple[str, list[object]]] = [
        ("1 worker on one core", [*one_core, *OCTREE, source, mine]),
        ("2 workers on two", [*OCTREE, source, mine, "--workers", 2]),
        ("1 worker on one core, no codec", [*one_core, *OCTREE, source, mine, "--codec", "none"]),
        ("2 workers on two, no codec", [*OCTREE, source, mine, "--workers", 2, "--codec", "none"]),
        ("method mode", [*OCTREE, source, mine, "--method", "mode"]),
        ("method median", [*OCTREE, source, mine, "--method", "median"]),
        ("8192²", [*OCTREE, source_of(8192), mine]),
    ]
    if not arguments.quick:
        cases.insert(-1, ("32768²", [*OCTREE, source_of(32768), mine]))
    for name, command in cases:
        runs = [r for _ in range(3) if (r := measure(command, mine))]
        if runs:
            print(
                f"| {name} | {statistics.median(r[0] for r in runs):.2f} | {max(r[1] for r in runs):.0f} |",
                flush=True,
            )
    files = sum(1 for p in mine.rglob("*") if p.is_file())
    print(f"\nFiles of the 8192² pyramid: {files}.")


main()
