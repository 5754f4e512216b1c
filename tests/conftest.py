"""One OpenGL context for the whole test process: OSMesa, needing no display. Servers on loopback, each started by the
first test that asks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servers.faulty import FaultServer
    from servers.nginx import Nginx
    from servers.weed import Weed

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


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """An S3 store, with what other tests have put there: each begins its keys with a name of its own."""
    from servers.weed import sockets_of, start_weed

    server, kept = start_weed(tmp_path_factory.mktemp("weed"))
    yield server
    kept.close()
    for path in sockets_of(server):
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def www(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``nginx`` serves."""
    return tmp_path_factory.mktemp("www")


@pytest.fixture(scope="session")
def nginx(www: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An HTTP server of ``www``."""
    from servers.nginx import start_nginx

    server, kept = start_nginx(www, tmp_path_factory.mktemp("nginx"))
    yield server
    kept.close()


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultServer]:
    """An HTTP server of the folder ``faulty.root`` that can be told to fail."""
    from servers.faulty import FaultServer

    (tmp_path / "served").mkdir()
    server = FaultServer(tmp_path / "served")
    yield server
    server.close()
