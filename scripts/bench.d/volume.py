"""Volumes, against bare programs in the same run. Prints Markdown; data lie in bench-results/work (made on the first run).

build   whole processes: a pyramid of cubes, against a bare fused TensorStore loop that writes the same chunks and shards
frames  one frame of a volume in memory, against a bare march of one texture, vispy and VTK
pieces  of such a frame: counting, an oblique slice, cover, upload
whole   a frame and a turntable from disk, against a bare program that reads and marches
Usage: volume.py [PART...] [--size 1024] [--repeats 3] [--rounds 7]    (all parts, if none is named)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from _volume_build import building
from _volume_frames import frames
from _volume_pieces import pieces
from _volume_whole import whole

PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "build": lambda given: building(given.size, given.repeats),
    "frames": lambda given: frames(256, given.rounds),
    "pieces": lambda given: pieces(given.rounds),
    "whole": lambda given: whole(given.size, given.repeats),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        PARTS[part](arguments)


main()
