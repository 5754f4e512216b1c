"""Building a volume, against a bare fused TensorStore loop that writes the same chunks and shards: whole processes, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from _measure import measure

WORK = Path("bench-results/work")

MAKE = """
import sys, numpy as np, tensorstore as ts
n, path = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(1)
meta = {'shape': [n] * 3, 'chunks': [128] * 3, 'dtype': '<u2', 'compressor': {'id': 'zstd', 'level': 1}}
a = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': path + '/'}, 'metadata': meta}, create=True).result()
x = np.arange(n, dtype='f4')
plane = 2000 + 1500 * np.sin(x / 19) * np.cos(x[:, None] / 31)
for z in range(0, n, 128):
    a[z:z + 128].write(rng.poisson(plane + 400 * np.sin(np.arange(z, min(z + 128, n))[:, None, None] / 23)).astype('u2')).result()
"""

FLOOR = """
import itertools, sys, tensorstore as ts
from concurrent.futures import ThreadPoolExecutor
src, dst = sys.argv[1:3]
s = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': src + '/'}}).result()
n, edge = s.shape[0], 256
def make(k):
    inner = {'chunk_shape': [64] * 3, 'codecs': [{'name': 'bytes', 'configuration': {'endian': 'little'}},
             {'name': 'zstd', 'configuration': {'level': 1}}],
             'index_codecs': [{'name': 'bytes', 'configuration': {'endian': 'little'}}, {'name': 'crc32c'}]}
    meta = {'shape': [n >> k] * 3, 'data_type': 'uint16', 'fill_value': 0,
            'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [edge >> k] * 3}},
            'codecs': [{'name': 'sharding_indexed', 'configuration': inner}]}
    return ts.open({'driver': 'zarr3', 'kvstore': {'driver': 'file', 'path': f'{dst}/{k}/'}, 'metadata': meta}, create=True).result()
levels = [make(k) for k in range(3) if k == 0 or n >> (k - 1) > 256]
def task(at):
    block, writes = s[tuple(slice(a, a + edge) for a in at)].read().result(), []
    for k, level in enumerate(levels):
        if k:
            block = ts.downsample(ts.array(block), [2] * 3, 'mean').read().result()
        place = tuple(slice(a >> k, (a + edge) >> k) for a in at)
        writes.append(level[place].write(block, can_reference_source_data_indefinitely=True))
    for w in writes:
        w.result()
with ThreadPoolExecutor(3) as pool:
    list(pool.map(task, itertools.product(range(0, n, edge), repeat=3)))
"""


def source_of(edge: int) -> Path:
    """The volume of ``edge`` cubed, made on the first call."""
    path = WORK / f"volume-{edge}.zarr"
    if not path.exists():
        subprocess.run([sys.executable, "-c", MAKE, str(edge), path], check=True)
    return path


def building(size: int, repeats: int) -> None:
    """``octree build`` beside the bare loop, in turns; prints Markdown."""
    WORK.mkdir(parents=True, exist_ok=True)
    source, theirs, ours = source_of(size), WORK / "peer-out", WORK / "octree-out"
    octree = [sys.executable, "-m", "octree.cli", "build", source, ours, "--voxel-size", "z=1,y=1,x=1"]
    print(f"### Building {size}³ uint16\n\nPoisson noise on smooth structure, from 128³ zstd chunks to 64³ in shards of 256³.\n")  # fmt: skip
    pairs = []
    for _ in range(repeats):
        bare = measure([sys.executable, "-c", FLOOR, source, theirs], theirs)
        own = measure([*octree, "--axes", "zyx"], ours)
        if bare and own:
            pairs.append((bare, own))
    if not pairs:
        print("failed here")
        return
    print(
        "| | seconds | seconds of cpu | MiB |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {seconds:.2f} | {cpu:.2f} | {mib:.0f} |"
            for name, runs in zip(("bare loop, 3 threads", "octree"), zip(*pairs, strict=True), strict=True)
            for seconds, mib, cpu in [[statistics.median(values) for values in zip(*runs, strict=True)]]
        )
    )
    ratios = [statistics.median(own[k] / bare[k] for bare, own in pairs) for k in (0, 2)]
    print(f"\nRatio of time {ratios[0]:.2f}, of cpu {ratios[1]:.2f}.\n", flush=True)
