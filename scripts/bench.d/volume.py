"""Volumes, against bare programs in the same run. Prints Markdown; data lie in bench-results/work (made on the first run).

build   whole processes: a pyramid of cubes, against a bare fused TensorStore loop that writes the same chunks and shards
Usage: volume.py [PART...] [--size 1024] [--repeats 3]    (all parts, if none is named)
"""

from __future__ import annotations

import argparse

from _volume_build import building

PARTS = {"build": building}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        PARTS[part](arguments.size, arguments.repeats)


main()
