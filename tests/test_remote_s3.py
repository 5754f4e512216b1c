"""Places in a real S3 store."""

from __future__ import annotations

import pytest
from servers.weed import Weed

from octree.pyramid.store.remote.client import waited
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.options import RemoteOptions
from octree.pyramid.store.remote.place import remote_place


def test_names_kinds_and_removal(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    top = remote_place("s3://octree/places", RemoteOptions(endpoint=weed.endpoint))
    for name in ("b", "a/x/y", "a/b", "a.b"):
        top.child(name).write(name.encode())
    assert top.names() == ["a.b", "a/", "b"]
    assert [top.child(name).kind() for name in ("a", "a/b", "gone")] == ["folder", "value", "nothing"]
    assert top.child("a/b").read() == b"a/b"
    top.remove(["b", "gone"])
    assert top.child("b").read() is None
    etag = waited(top.client.put("places/once", b"1", create=True))
    with pytest.raises(RemoteError) as caught:
        waited(top.client.put("places/once", b"2", create=True))
    assert caught.value.fault == "exists"
    assert waited(top.client.put("places/once", b"2", match=etag)) != etag
    with pytest.raises(RemoteError) as caught:
        waited(top.client.put("places/once", b"3", match=etag))
    assert caught.value.fault == "changed"
    with pytest.raises(RemoteError, match="no such bucket"):
        remote_place("s3://nobucket/x", RemoteOptions(endpoint=weed.endpoint)).read()
