"""One OpenGL context for the whole test process: OSMesa, needing no display."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts the tests in the background has Ctrl-C ignored, for all that they start in turn
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def gl_info() -> Any:
    """The renderer; the first test that asks starts OpenGL."""
    from octree.render.gl import platform

    return platform.start("osmesa", max_threads=2)


@pytest.fixture
def canvas(gl_info: Any) -> Iterator[Any]:
    """A canvas of 64 x 48 pixels, to be resized as needed."""
    from octree.render.gl.canvas import Canvas

    with Canvas((64, 48), gl="osmesa") as made:
        yield made
