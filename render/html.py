"""The HTML report of a run: one file that needs nothing else."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octree.render.encode import atomic_file


def write_html(
    path: str | os.PathLike[str], report: dict[str, Any], frames: Sequence[bytes | str | os.PathLike[str]]
) -> None:
    """Write the page, atomically. ``report`` is ``RunReport.to_json()``; ``frames`` are PNGs, as bytes or
    paths, in the order of ``report["frames"]``. Raises ``DestinationError`` or ``WriteError``."""
    with atomic_file(Path(path)) as partial:
        partial.write_text(_page(report, frames), encoding="utf-8")


def _page(report: dict[str, Any], frames: Sequence[bytes | str | os.PathLike[str]]) -> str:
    import json
    from html import escape

    pictures = [frame if isinstance(frame, bytes) else Path(frame).read_bytes() for frame in frames]
    urls = ["data:image/png;base64," + base64.b64encode(picture).decode() for picture in pictures]
    images = "".join(f'<img src="{url}" alt="frame">' for url in urls)
    return f"<!doctype html><meta charset=utf-8><title>octree</title>{images}<pre>{escape(json.dumps(report, indent=1))}</pre>"
