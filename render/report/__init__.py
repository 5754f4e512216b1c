"""What a run showed and what it cost.

values.py      the values behind the JSON report, and its schema
rates.py       frame-rate classes and jank
empty.py       frames that show nothing
html.py        the report as one page; pages.py   what all HTML pages share
trace.py       a timeline for Perfetto
monitor.py     a line for each frame while it runs
"""

from __future__ import annotations

from typing import Any

__all__ = ["report_schema"]


def __getattr__(name: str) -> Any:
    # numpy and what the values are made of come with the first use
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from octree.render.report import values

    return getattr(values, name)
