"""DEST in object storage: the bytes of a build into a folder, killed anywhere, two at once, replaced without a gap."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from build_tools import image, octree, octree_json, start, tree

from octree.pyramid import build, open_pyramid
from octree.pyramid.building.bucket import lease as lease_module
from octree.pyramid.building.bucket.lease import HOLDS_S, Lease
from octree.pyramid.building.builder import plan_build
from octree.pyramid.errors import DestinationError, SourceError, UsageError, WriteError
from octree.pyramid.store.remote.client import RemoteClient, client_of, waited

if TYPE_CHECKING:
    from servers.weed import Weed

pytestmark = pytest.mark.usefixtures("store")
SMALL: dict[str, Any] = {"tile": 32, "shard": 2, "name": "n", "workers": 2}
BUCKET = "s3://octree"
_numbers = itertools.count()


@pytest.fixture
def store(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> RemoteClient:
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    return client_of(BUCKET)


@pytest.fixture
def dest() -> str:
    """A name that no other test has used."""
    return f"{BUCKET}/builds/{os.getpid()}-{next(_numbers)}.ome.zarr"


def objects(store: RemoteClient, dest: str) -> dict[str, str]:
    """As ``tree``, of what lies in the bucket."""
    prefix = dest.removeprefix(f"{BUCKET}/")
    found = {}
    for key in waited(store.keys(prefix)):
        got = waited(store.get(key))
        assert got is not None
        found[key.removeprefix(f"{prefix}/")] = hashlib.sha256(bytes(got.data)).hexdigest()
    return found


def pyramid_objects(store: RemoteClient, dest: str) -> dict[str, str]:
    """Of a finished build: nothing is kept beside but what it was built from."""
    found = objects(store, dest)
    assert found.pop(".octree/built")
    assert not [name for name in found if name.startswith(".octree")]
    return found


@pytest.mark.parametrize(
    "options", [SMALL, SMALL | {"ome_version": "0.4", "shard": 0}, {"tile": 16, "shard": 1}]
)
def test_the_objects_are_the_files_of_a_folder(
    tmp_path: Path, store: RemoteClient, dest: str, options: dict[str, Any]
) -> None:
    """The last of these has several rounds: levels are read back from the bucket."""
    pixels = image((300, 420))
    pixels[:100] = 0  # what is nothing but fill has no object
    build(pixels, tmp_path / "p", **{"name": "n"} | options)
    result = build(pixels, dest, **{"name": "n"} | options)
    assert pyramid_objects(store, dest) == tree(tmp_path / "p")
    assert result.bytes_written > 0
    opened = open_pyramid(dest)
    here = open_pyramid(tmp_path / "p")
    assert opened.spec == here.spec


def test_the_command_builds_and_says_what_lies_there(tmp_path: Path, store: RemoteClient, dest: str) -> None:
    np.save(tmp_path / "a.npy", image((700, 900)))
    found = octree_json(
        "build", tmp_path / "a.npy", dest, "--scheduler", "local", "--workers", "2", "--tile", "64"
    )
    assert found["dest"] == dest
    assert found["scheduler"] == "local"
    build(str(tmp_path / "a.npy"), tmp_path / "p", tile=64, shard=16)
    assert pyramid_objects(store, dest) == tree(tmp_path / "p"), "sixteen chunks a shard, if nobody says"
    with pytest.raises(DestinationError, match="not empty"):
        plan_build(str(tmp_path / "a.npy"), dest)
    again = octree("build", tmp_path / "a.npy", dest)
    assert again.returncode == 4
    assert "--overwrite" in again.stderr
    resumed = octree_json("build", tmp_path / "a.npy", dest, "--resume", "--tile", "64")
    assert resumed["resumed"]
    with pytest.raises(DestinationError, match="levels"):
        build(str(tmp_path / "a.npy"), dest, resume=True, tile=32)


# killed


class Killed(BaseException):
    """Not an Exception: nothing in a build may take it for a failure."""


class Mortal:
    """Every client of this process ends at its ``at``-th request, before it is sent or after it was answered, and does nothing
    from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.count, self.at, self.after = 0, at, after
        self.dead = False
        tried: Any = RemoteClient._tried

        async def mortal(
            client: RemoteClient, key: str, attempt: Callable[[], Awaitable[Any]], doing: str = "read"
        ) -> Any:
            self.count += 1
            last = self.count >= self.at
            if self.dead or (last and not self.after):
                self.dead = True
                raise Killed
            answer = await tried(client, key, attempt, doing)
            if last:
                self.dead = True
                raise Killed
            return answer

        monkeypatch.setattr(RemoteClient, "_tried", mortal)


def readable(dest: str) -> Any:
    """What a reader finds: level 0, or None where there is no pyramid."""
    try:
        pyramid = open_pyramid(dest)
    except SourceError:
        return None
    return [whole(pyramid, level) for level in range(len(pyramid.spec.levels))]


def whole(pyramid: Any, level: int) -> Any:
    from build_tools import whole_level

    return whole_level(pyramid, level)


def same(found: Any, wanted: Any) -> bool:
    return all((one == other).all() for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_anywhere_it_goes_on_and_nobody_reads_a_half(
    tmp_path: Path, store: RemoteClient, overwrite: bool
) -> None:
    old, new = image((96, 128), seed=1), image((96, 128), seed=2)
    build(new, tmp_path / "new", **SMALL)
    build(old, tmp_path / "old", **SMALL)
    levels = {name: readable(str(tmp_path / name)) for name in ("old", "new")}
    wanted = tree(tmp_path / "new")
    at = 0
    while True:
        at += 1 + at // 4  # each request at first, then some of them
        dest = f"{BUCKET}/builds/{os.getpid()}-killed-{overwrite}-{at}.ome.zarr"
        if overwrite:
            build(old, dest, **SMALL)
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, at, after=bool(at % 2))
            with contextlib.suppress(Killed):
                build(new, dest, overwrite=overwrite, **SMALL)
            if not mortal.dead:
                break
        found = readable(dest)
        assert found is None or any(same(found, each) for each in levels.values())
        assert found is not None or not overwrite
        build(new, dest, resume=True, overwrite=overwrite, **SMALL)
        left = pyramid_objects(store, dest)
        assert same(readable(dest), levels["new"])
        if overwrite:  # levels lie in a folder of the build
            left = {
                name.partition("/")[2] if len(name) > 16 and "/" in name else name: d
                for name, d in left.items()
            }
            assert left.pop("zarr.json")
            assert left == {name: d for name, d in wanted.items() if name != "zarr.json"}
        else:
            assert left == wanted
    assert at > 20


def test_a_killed_process_is_gone_on_with_at_once(tmp_path: Path, store: RemoteClient, dest: str) -> None:
    """Its lease holds, but its process was of this machine, and is gone."""
    np.save(tmp_path / "a.npy", image((1500, 1500)))
    words = ["build", tmp_path / "a.npy", dest, "--tile", "32", "--shard", "1", "--workers", "1"]
    with start(*words, "--progress", "json") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["progress"]["tasks_done"] > 2:
                break
        process.send_signal(signal.SIGKILL)
    refused = octree(*words)
    assert refused.returncode == 4
    assert "--resume" in refused.stderr
    found = octree_json(*words, "--resume")
    assert found["resumed"]
    build(str(tmp_path / "a.npy"), tmp_path / "p", tile=32, shard=1)
    assert pyramid_objects(store, dest) == tree(tmp_path / "p")
    changed = image((1500, 1500), seed=3)
    np.save(tmp_path / "a.npy", changed)
    assert octree(*words, "--resume").returncode == 4, "the source has changed since"


# two at once


def test_of_two_builds_the_second_is_refused(dest: str) -> None:
    refused = []

    def second(*_: Any) -> None:
        if not refused:
            with pytest.raises(DestinationError, match="another build is writing") as caught:
                build(image((64, 64)), dest, overwrite=True, **SMALL)
            refused.append(caught.value)

    build(image((200, 200)), dest, progress=second, **SMALL)
    assert refused[0].exit_code == 4
    assert "lease" in refused[0].message


def test_a_lease_that_has_run_out_is_taken_over_and_its_owner_ends(
    store: RemoteClient, dest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = dest.removeprefix(f"{BUCKET}/")
    monkeypatch.setattr(lease_module, "me", lambda: "process 1 on another-machine")
    pixels = image((200, 200))
    taken = []

    def take(*_: Any) -> None:
        if not taken:
            lease_module._held.clear()  # as if it were of another process
            with pytest.raises(DestinationError, match="lease"), Lease(store, key):
                pass
            with Lease(store, key, lambda: __import__("time").time() + HOLDS_S + 1) as other:
                taken.append(other)
                other.check()

    with pytest.raises(DestinationError, match="taken over"):
        build(pixels, dest, progress=take, stop=lambda: False, **SMALL | {"workers": 1})
    assert readable(dest) is None
    build(pixels, dest, resume=True, **SMALL)
    assert (readable(dest)[0] == pixels).all()


def test_a_store_that_ignores_conditions_is_refused(dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put: Any = RemoteClient.put

    async def careless(client: RemoteClient, key: str, data: Any, **_: Any) -> Any:
        return await put(client, key, data)

    monkeypatch.setattr(RemoteClient, "put", careless)
    with pytest.raises(DestinationError, match="condition") as caught:
        build(image((64, 64)), dest, **SMALL)
    assert "If-None-Match" in caught.value.message


# what is refused


def test_what_is_no_pyramid_stays(store: RemoteClient, dest: str) -> None:
    key = dest.removeprefix(f"{BUCKET}/")
    waited(store.put(f"{key}/notes.txt", b"mine"))
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(DestinationError):
            build(image((64, 64)), dest, **SMALL | options)
    assert set(objects(store, dest)) == {"notes.txt"}
    waited(store.delete([f"{key}/notes.txt"]))
    build(image((64, 64)), dest, **SMALL)
    waited(store.put(f"{key}/notes.txt", b"mine"))
    with pytest.raises(DestinationError, match=r"notes\.txt"):
        build(image((64, 64)), dest, overwrite=True, **SMALL)


@pytest.mark.parametrize(
    ("dest", "kind"),
    [
        ("https://example.org/a.zarr", UsageError),
        ("s3://octree", UsageError),
        ("s3://octree/", UsageError),
        ("ftp://host/a.zarr", UsageError),
    ],
)
def test_where_nothing_can_be_built(dest: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        build(image((64, 64)), dest, **SMALL)


def test_source_and_dest_are_apart(dest: str) -> None:
    build(image((64, 64)), dest, **SMALL)
    for other in (dest, f"{dest}/inner.zarr", dest.rpartition("/")[0]):
        with pytest.raises(DestinationError, match=r"contain|same"):
            build(dest, other, overwrite=True, **SMALL)
    assert plan_build(dest, f"{dest}-2", **SMALL).tasks


def test_a_store_that_goes_away_is_a_failed_write(dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from octree.pyramid.store.remote.faults import Fault, error_of

    put: Any = RemoteClient.put

    async def failing(client: RemoteClient, key: str, data: Any, **condition: Any) -> Any:
        if "/c/" in key:
            raise error_of(client.url(key), Fault("refused"), 3, "write")
        return await put(client, key, data, **condition)

    pixels = image((200, 200))
    with monkeypatch.context() as patch:
        patch.setattr(RemoteClient, "put", failing)
        with pytest.raises(WriteError, match="nobody answers") as caught:
            build(pixels, dest, **SMALL)
    assert "--resume" in (caught.value.hint or "")
    build(pixels, dest, resume=True, **SMALL)
    assert (readable(dest)[0] == pixels).all()
