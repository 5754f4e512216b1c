"""Requests to stores, and what happens when they fail: against a server in this process."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest
from loopback import Loopback, serving

from octree.pyramid.errors import OutsideError
from octree.pyramid.store.remote.client import Got, RemoteClient, client_of, in_loop, waited
from octree.pyramid.store.remote.faults import _WORDS, FAULTS, RemoteError
from octree.pyramid.store.remote.options import RemoteOptions
from octree.pyramid.store.remote.place import remote_place

VALUE = bytes(range(256)) * 400
PATIENT = RemoteOptions()
HASTY = RemoteOptions(read_timeout_s=0.1, connect_timeout_s=0.1)
"""Only where nothing comes: on a busy machine all else may take longer."""


@pytest.fixture
def server() -> Iterator[Loopback]:
    values = {"img/value": VALUE, "img/empty": b"", "img/a b%c+#ä?": b"odd", "bucket/img/value": VALUE}
    with serving(values) as server:
        yield server


@pytest.fixture
def client(server: Loopback) -> RemoteClient:
    return client_of(server.url, PATIENT)


def s3_client(server: Loopback, monkeypatch: pytest.MonkeyPatch, **more: str) -> RemoteClient:
    for name, value in {"AWS_ACCESS_KEY_ID": "KEYID", "AWS_SECRET_ACCESS_KEY": "SECRET", **more}.items():
        monkeypatch.setenv(name, value)
    return client_of("s3://bucket", replace(PATIENT, endpoint=server.url))


def got(read: Coroutine[Any, Any, Got | None]) -> Got:
    found = waited(read)
    assert found is not None
    return found


def test_reads_whole_values_ranges_and_ends(client: RemoteClient) -> None:
    whole = got(client.get("img/value"))
    part = got(client.get("img/value", 100, 300))
    rest = got(client.get("img/value", len(VALUE) - 7))
    beyond = got(client.get("img/value", len(VALUE) - 7, 2 * len(VALUE)))
    tail = got(client.tail("img/value", 9))
    assert bytes(whole.data) == VALUE
    assert (bytes(part.data), part.start, part.size) == (VALUE[100:300], 100, len(VALUE))
    assert bytes(rest.data) == bytes(beyond.data) == VALUE[-7:]
    assert (bytes(tail.data), tail.start) == (VALUE[-9:], len(VALUE) - 9)
    assert whole.etag == part.etag == tail.etag
    assert client.counts() == (5, 2 * len(VALUE) // 2 + 200 + 14 + 9, 0, 0)


def test_odd_names_and_empty_values(client: RemoteClient) -> None:
    odd, empty = got(client.get("img/a b%c+#ä?")), got(client.get("img/empty", 0, 10))
    tail = got(client.tail("img/empty", 10))
    assert bytes(odd.data) == b"odd"
    assert (bytes(empty.data), empty.size, bytes(tail.data), tail.start) == (b"", 0, b"", 0)


def test_what_is_not_there_is_none(client: RemoteClient) -> None:
    assert waited(client.get("img/none")) is waited(client.tail("img/none", 4)) is None
    assert waited(client.head("img/none")) is None
    assert client.counts().retries == 0


def test_s3_signs_and_sets_values_once(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3_client(server, monkeypatch)
    assert bytes(got(client.get("img/value", 1, 2)).data) == b"\1"
    assert server.asked[-1].path == "bucket/img/value"
    assert "Credential=KEYID/" in server.asked[-1].headers["authorization"]
    assert waited(client.put("new", b"one", create=True))
    with pytest.raises(RemoteError, match="cannot be written: it is there already") as caught:
        waited(client.put("new", b"two", create=True))
    assert caught.value.fault == "exists"
    assert server.values["bucket/new"] == b"one"


@pytest.mark.parametrize(
    ("rule", "fault", "requests"),
    [
        ("403", "forbidden", 1),
        ("401", "unauthorized", 1),
        ("400", "request", 1),
        ("429", "busy", 3),
        ("500", "server", 3),
        ("503", "busy", 3),
        ("reset", "reset", 3),
        ("truncated", "short", 3),
        ("hang", "stalled", 3),
        ("hang in body", "stalled", 3),
        ("html", "page", 2),
    ],
)
def test_faults(server: Loopback, client: RemoteClient, rule: str, fault: str, requests: int) -> None:
    if rule.startswith("hang"):
        client = client_of(server.url, HASTY)
    server.rule = lambda asked: rule
    with pytest.raises(RemoteError) as caught:
        waited(client.get("img/value", 0, 60_000))
    assert caught.value.fault == fault
    assert caught.value.message.startswith(f"{server.url}/img/value cannot be read: ")
    assert caught.value.hint
    assert len(server.asked) == requests == client.counts().requests


def test_dripping_bodies_are_given_up(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something comes before each time-out, and never enough."""
    client = client_of(server.url, replace(HASTY, retries=1))
    server.rule = lambda asked: "drip"
    with pytest.raises(RemoteError) as caught:
        waited(client.get("img/value", 0, 1000))
    assert caught.value.fault == "stalled"


def test_what_comes_at_last_is_taken(server: Loopback, client: RemoteClient) -> None:
    faults = iter(["503", "reset", ""])
    server.rule = lambda asked: next(faults)
    assert bytes(got(client.get("img/value", 5, 6)).data) == b"\5"
    assert client.counts() == (3, 1, 2, 0)


def test_servers_without_ranges_give_parts_of_small_values(server: Loopback, client: RemoteClient) -> None:
    server.rule = lambda asked: "range ignored"
    part, tail = got(client.get("img/value", 100, 300)), waited(client.tail("img/value", 9))
    assert (bytes(part.data), part.start, part.size) == (VALUE[100:300], 100, len(VALUE))
    assert (bytes(tail.data), tail.start) == (VALUE[-9:], len(VALUE) - 9)
    assert len(server.asked) == 3  # it is asked for a range once


def test_servers_without_ranges_and_large_values(
    server: Loopback, client: RemoteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octree.pyramid.store.remote.client._WHOLE_BYTES", 1000)
    server.rule = lambda asked: "range ignored"
    with pytest.raises(RemoteError, match="gives whole files only"):
        waited(client.get("img/value", 100, 300))


def test_forbidden_can_mean_missing(server: Loopback) -> None:
    server.rule = lambda asked: "403"
    assert waited(client_of(server.url, replace(PATIENT, missing_403=True)).get("img/value")) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1:9", "refused"),
        ("https://no.such.host.invalid", "dns"),
    ],
)
def test_nobody_answers(url: str, fault: str) -> None:
    with pytest.raises(RemoteError) as caught:
        waited(client_of(url, replace(PATIENT, retries=1)).get("x"))
    assert caught.value.fault == fault


def test_no_tls(server: Loopback) -> None:
    with pytest.raises(RemoteError) as caught:
        waited(client_of(server.url.replace("http:", "https:"), PATIENT).get("x"))
    assert caught.value.fault == "tls"


def test_cancelled_requests_leave_no_connection(server: Loopback, client: RemoteClient) -> None:
    server.rule = lambda asked: "hang" if asked.path.endswith("value") else None
    slow = client_of(server.url, replace(PATIENT, read_timeout_s=60))
    hung = [in_loop(slow.get("img/value", n, n + 1)) for n in range(4)]
    until(lambda: len(server.asked) == 4)
    for one in hung:
        one.cancel()
    until(lambda: server.open_connections == 0)


def until(done: Callable[[], bool], within_s: float = 1.0) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_no_more_requests_at_a_time_than_allowed(server: Loopback) -> None:
    slow = client_of(server.url, replace(PATIENT, read_timeout_s=60, in_flight=2))
    server.rule = lambda asked: "hang"
    hung = [in_loop(slow.get("img/value", n, n + 1)) for n in range(6)]
    until(lambda: len(server.asked) == 2)
    for one in hung[:2]:
        one.cancel()
    until(lambda: len(server.asked) == 4)
    for one in hung:
        one.cancel()


def test_every_fault_has_its_words() -> None:
    assert set(_WORDS) == set(FAULTS)


def test_places(server: Loopback) -> None:
    place = remote_place(f"{server.url}/img", PATIENT)
    assert str(place.child("value")) == f"{server.url}/img/value"
    assert place.child("value").read(0, 3) == b"\0\1\2"
    assert place.child("none").read() is place.child("none").stamp() is None
    assert (place.kind(), place.child("value").kind(), place.name) == ("folder", "value", "img")
    assert place.ends(["value", "none"]) == [(len(VALUE), VALUE[-4:])]
    assert place.child("a").child("..") == place
    again = pickle.loads(pickle.dumps(place))
    assert again == place


@pytest.mark.parametrize(
    "name", ["..", "../other", "a/../../b", "/etc", "https://other/x", "s3://b/k", "a\0b"]
)
def test_names_do_not_lead_out(server: Loopback, name: str) -> None:
    with pytest.raises(OutsideError):
        remote_place(f"{server.url}/img", PATIENT).child(name)


def test_only_a_range_is_asked_for(server: Loopback, client: RemoteClient) -> None:
    waited(client.get("img/value", 0, 1))
    assert server.asked[0].range == "bytes=0-0"
