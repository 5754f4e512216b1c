"""Put the tables of a benchmark run into docs/benchmarks.md: each between its own two marker lines."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{cores} cores ({names[0] if names else platform.machine()}), Python {platform.python_version()}"


def main(results: Path, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for result in sorted(results.glob("*.md")):
        name = result.stem
        block = f"<!-- {name} -->\n{result.read_text(encoding='utf-8').strip()}\n\nMeasured on {machine()}.\n<!-- /{name} -->"
        marked = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        if not marked.search(text):
            sys.exit(f"{page} has no place for {name}: add the lines <!-- {name} --> and <!-- /{name} -->")
        text = marked.sub(lambda _, block=block: block, text)
    page.write_text(text, encoding="utf-8")


main(Path(sys.argv[1]), Path(sys.argv[2]))
