"""The servers that remote stores are tested with do what the tests take them for."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers.faulty import FaultServer, Kind
from servers.keeper import __file__ as KEEPER
from servers.nginx import Nginx
from servers.weed import PUBLIC, Weed


def ask(
    port: int, path: str, range_: str | None = None, limit_s: float = 10.0
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)
    try:
        connection.request("GET", path, headers={"Range": range_} if range_ else {})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.fixture
def hundred(faulty: FaultServer) -> bytes:
    data = bytes(range(100))
    (faulty.root / "value").write_bytes(data)
    return data


def test_ranges_are_those_of_http(faulty: FaultServer, hundred: bytes) -> None:
    assert ask(faulty.port, "/value")[:2] == (200, hundred)
    for asked, data in {
        "bytes=3-9": hundred[3:10],
        "bytes=-7": hundred[-7:],
        "bytes=90-": hundred[90:],
    }.items():
        assert ask(faulty.port, "/value", asked)[:2] == (206, data)
    assert ask(faulty.port, "/value", "bytes=200-300")[0] == 416
    assert ask(faulty.port, "/nothing")[0] == 404
    assert [r.range for r in faulty.requests][:2] == ["", "bytes=3-9"]


@pytest.mark.parametrize("kind", ["401", "403", "404", "429", "500", "503"])
def test_a_status_as_often_as_told(kind: Kind, faulty: FaultServer, hundred: bytes) -> None:
    faulty.fault(kind, "/value", times=2)
    assert [ask(faulty.port, "/value")[0] for _ in range(3)] == [int(kind), int(kind), 200]


def test_bad_bodies(faulty: FaultServer, hundred: bytes) -> None:
    faulty.fault("truncated", times=1)
    with pytest.raises(http.client.IncompleteRead):
        ask(faulty.port, "/value")
    faulty.fault("reset", times=1)
    with pytest.raises(ConnectionError):
        ask(faulty.port, "/value")
    faulty.fault("range-ignored", times=1)
    assert ask(faulty.port, "/value", "bytes=3-9")[:2] == (200, hundred)
    faulty.fault("html", times=1)
    assert ask(faulty.port, "/value")[1].startswith(b"<html>")
    faulty.fault("garbage", times=1)
    assert len(ask(faulty.port, "/value")[1]) == 100
    faulty.fault("dripping", times=1)
    assert ask(faulty.port, "/value")[:2] == (200, hundred)


@pytest.mark.parametrize("kind", ["hanging", "hanging-body"])
def test_a_client_that_gives_up_is_seen(kind: Kind, faulty: FaultServer, hundred: bytes) -> None:
    faulty.fault(kind)
    with pytest.raises(TimeoutError):
        ask(faulty.port, "/value", limit_s=0.05)
    faulty.wait_for(lambda f: f.open_connections == 0 and f.unanswered == 0)


def test_nginx_serves_and_counts(nginx: Nginx, www: Path) -> None:
    (www / "counted").write_bytes(bytes(50))
    assert ask(nginx.port, "/counted", "bytes=-7")[:2] == (206, bytes(7))
    (line,) = [line for line in nginx.requests() if line.path == "/counted"]
    assert (line.method, line.status, line.range) == ("GET", 206, "bytes=-7")


def test_weed_is_an_s3_store(weed: Weed) -> None:
    assert ask(weed.port, f"/{PUBLIC}/nothing")[0] == 404
    assert ask(weed.port, "/octree/nothing")[0] == 403


@pytest.mark.parametrize("whole_group", [False, True])
def test_what_is_kept_ends_with_its_keeper(whole_group: bool) -> None:
    """By SIGKILL, too: then nobody can tidy up. As ``timeout`` does, a signal may go to all of a group."""
    program = f"import os; os.write(1, str(os.getpid()).encode() + b'\\n'); {'import time; time.sleep(600)'}"
    # a test run that starts a server, and says who it is
    run = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(KEEPER).parent.parent)!r})
from servers.keeper import Kept
kept = Kept([sys.executable, "-c", {program!r}], Path("/"), Path("/dev/stdout"))
time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, start_new_session=True)
    assert starter.stdout is not None
    with starter.stdout:
        server = int(starter.stdout.readline())
        if whole_group:
            os.killpg(starter.pid, signal.SIGTERM)
        else:
            os.kill(starter.pid, signal.SIGKILL)
        starter.wait()
        assert starter.stdout.read() == b""  # at its end when the server, too, is gone
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
