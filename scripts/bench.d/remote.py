"""Remote stores on loopback, 50 ms away: tiles by ranges against zarr over obstore, requests and round trips of a frame, and what
is left of reads that are cancelled. Prints a Markdown table."""

from __future__ import annotations

import asyncio
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from servers.faulty import FaultServer
from servers.nginx import start_nginx
from servers.ports import free_ports, listens, until_ready
from servers.weed import BUCKET, KEY, SECRET, Weed, start_weed

from octree.pyramid import build
from octree.pyramid.model import Box
from octree.pyramid.store.arrays import Pyramid, open_pyramid
from octree.pyramid.store.reading import together
from octree.pyramid.store.remote.client import RemoteClient, client_of, waited
from octree.pyramid.store.remote.options import RemoteOptions
from octree.pyramid.store.zipped.packing import pack

DELAY_MS, IN_FLIGHT, IN_HAND = 50, 64, 16
SIZE, TILE, ROUNDS = 8192, 256, 3
FRAME = (1024, 768)


def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows, columns = np.arange(1024)[:, None], np.arange(1024)[None]
    base = (1000 + 500 * np.sin(columns / 37) + 400 * np.cos(rows / 53)).astype(np.uint16)
    whole = np.empty((SIZE, SIZE), np.uint16)
    for y in range(0, SIZE, 1024):
        for x in range(0, SIZE, 1024):
            whole[y : y + 1024, x : x + 1024] = base + rng.integers(0, 64, (1024, 1024), np.uint16)
    return whole


@contextmanager
def delayed(port: int) -> Iterator[int]:
    """A port that answers so much later: a proxy in a process of its own."""
    (listening,) = free_ports(1)
    program = Path(__file__).resolve().parent.parent.parent / "tests/servers/delay.py"
    proxy = subprocess.Popen([sys.executable, program, str(listening), str(port), str(DELAY_MS)])
    try:
        until_ready(lambda: listens(listening), lambda: proxy.poll() is not None)
        yield listening
    finally:
        proxy.kill()
        proxy.wait()


def tile(row: int, column: int) -> Box:
    return Box((TILE * row, TILE * column), (TILE * row + TILE, TILE * column + TILE))


def scattered() -> list[Box]:
    boxes = [tile(row, column) for row in range(SIZE // TILE) for column in range(SIZE // TILE)]
    np.random.default_rng(1).shuffle(boxes)
    return boxes


def rate_of_reads(pyramid: Pyramid, boxes: list[Box], in_flight: int) -> float:
    """Tiles per second as the loader asks: each thread has some reads in hand, and ends the first of them first."""
    waiting: queue.SimpleQueue[Box] = queue.SimpleQueue()
    for box in boxes:
        waiting.put(box)
    in_hand = min(IN_HAND, in_flight)

    def work() -> None:
        hand: list[Any] = []
        while True:
            with together():
                while len(hand) < in_hand and not waiting.empty():
                    try:
                        hand.append(pyramid.start(0, waiting.get_nowait()))
                    except queue.Empty:
                        break
            if not hand:
                return
            hand.pop(0).result()

    threads = [threading.Thread(target=work) for _ in range(in_flight // in_hand)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(boxes) / (time.perf_counter() - began)


def rate_of_calls(read: Callable[[Box], Any], boxes: list[Box], in_flight: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(read, boxes))
    return len(boxes) / (time.perf_counter() - began)


def peer(url: str) -> Any:
    """The same array by zarr over obstore."""
    import zarr
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    store = HTTPStore.from_url(url, client_options={"allow_http": True})
    return zarr.open_array(ObjectStore(store, read_only=True), mode="r")


def peer_levels(prefix: str, weed: Weed) -> list[Any]:
    """The levels of a pyramid in a bucket by zarr over obstore, opened as ome-zarr does: the group, then each of them."""
    import zarr
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    store = S3Store(
        BUCKET, prefix=prefix, endpoint=weed.endpoint, access_key_id=KEY, secret_access_key=SECRET,
        region="us-east-1", client_options={"allow_http": True}, virtual_hosted_style_request=False,
    )  # fmt: skip
    group: Any = zarr.open_group(ObjectStore(store, read_only=True), mode="r")
    return [group[level["path"]] for level in group.attrs["ome"]["multiscales"][0]["datasets"]]


def row(what: str, ours: str, other: str, goal: str) -> None:
    print(f"| {what} | {ours} | {other} | {goal} |", flush=True)


def throughput(near: str, far: str) -> None:
    boxes = scattered()
    few = boxes[:256]
    for where, url in (("on loopback", near), (f"{DELAY_MS} ms away", far)):
        for in_flight in (1, IN_HAND, IN_FLIGHT):
            some = few[:40] if in_flight == 1 else few if url == far and in_flight < IN_FLIGHT else boxes
            own, theirs = [], []
            for _ in range(ROUNDS if in_flight == IN_FLIGHT else 1):
                remote = RemoteOptions(in_flight=in_flight)
                own.append(rate_of_reads(open_pyramid(url, remote=remote), some, in_flight))
                array = peer(f"{url}/0")
                theirs.append(rate_of_calls(lambda box, array=array: array[box.slices], some, in_flight))
            ours, other = max(own), max(theirs)
            goal = "700 tiles/s, and 1.5 x the other" if in_flight == IN_FLIGHT and url == far else ""
            row(
                f"tiles/s, {where}, {in_flight} in flight",
                f"{ours:.0f} ({ours / other:.1f} x)",
                f"{other:.0f}",
                goal,
            )


def requests(near: str) -> None:
    client = client_of(near.rpartition("/")[0], RemoteOptions())

    def asked(boxes: list[Box], pyramid: Pyramid) -> int:
        before = client.counts().requests
        with together():
            begun = [pyramid.start(0, box) for box in boxes]
        for each in begun:
            each.result()
        return client.counts().requests - before

    pyramid = open_pyramid(near)
    pyramid.array(0)
    first, later = asked([tile(1, 1)], pyramid), asked([tile(5, 6)], pyramid)
    pyramid = open_pyramid(near)
    pyramid.array(0)
    sixteen = asked([tile(y, x) for y in range(2, 6) for x in range(1, 5)], pyramid)
    row(
        "requests: first tile of a shard, later ones, 4 x 4 neighbours",
        f"{first}, {later}, {sixteen}",
        "2, 2, 32",
        "2, 1, at most 5",
    )


class Spans:
    """When requests of our client began and ended, while it looks."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    @contextmanager
    def watched(self) -> Iterator[Spans]:
        own = RemoteClient._tried

        async def timed(client: RemoteClient, *arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return await own(client, *arguments)
            finally:
                self.seen.append((began, time.perf_counter()))

        RemoteClient._tried = timed
        try:
            yield self
        finally:
            RemoteClient._tried = own

    def round_trips(self) -> int:
        """The longest row of requests of which each began when the one before had ended."""
        deepest: list[tuple[float, int]] = []
        for began, ended in sorted(self.seen):
            deepest.append((ended, 1 + max((depth for end, depth in deepest if end <= began), default=0)))
        return max((depth for _, depth in deepest), default=0)


def frames(url: str, far: Weed, prefix: str) -> None:
    """Two views of a pyramid that are apart, each settled."""
    from octree.render import iter_frames

    cameras = ("x=1500,y=1500,zoom=1", "x=6500,y=6500,zoom=1")
    trips: list[list[int]] = []
    asked: list[list[int]] = []
    for _ in range(ROUNDS):
        os.environ["AWS_ENDPOINT_URL"] = far.endpoint
        views = iter_frames([url], cameras, size=FRAME, options={"region": "us-east-1"})
        found: list[Spans] = []
        for _ in cameras:
            spans = Spans()
            with spans.watched():
                next(views)
            found.append(spans)
        del views
        trips.append([each.round_trips() for each in found])
        asked.append([len(each.seen) for each in found])
    first, following = (statistics.median(each) for each in zip(*trips, strict=True))
    row(
        f"settled {FRAME[0]} x {FRAME[1]} frame of an S3 pyramid, first / next view: round trips",
        f"{first:.0f} / {following:.0f}",
        "",
        "at most 5 / 3",
    )
    requests_of = [statistics.median(each) for each in zip(*asked, strict=True)]
    row("the same: requests", " / ".join(f"{count:.0f}" for count in requests_of), "", "")
    boxes = [tile(y, x) for y in range(4, 8) for x in range(3, 9)]

    def own() -> float:
        began = time.perf_counter()
        # clients of other options share no connections
        remote = RemoteOptions(read_timeout_s=10 + time.perf_counter() % 1e-3)
        pyramid = open_pyramid(url, remote=remote)
        with together():
            begun = [pyramid.start(0, box) for box in boxes]
        for each in begun:
            each.result()
        return time.perf_counter() - began

    def theirs() -> float:
        began = time.perf_counter()
        array = peer_levels(prefix, far)[0]
        with ThreadPoolExecutor(len(boxes)) as pool:
            list(pool.map(lambda box: array[box.slices], boxes))
        return time.perf_counter() - began

    ours, other = (statistics.median([each() for _ in range(ROUNDS)]) for each in (own, theirs))
    row(
        "opening it and reading the 24 tiles of a view, s",
        f"{ours:.2f} ({ours / other:.2f} x)",
        f"{other:.2f}",
        "0.7 x",
    )


def cancelled(folder: Path) -> None:
    """Connections on which a server still waits, a second after reads of a server that hangs were given up."""
    server = FaultServer(folder)
    pyramid = open_pyramid(f"{server.url}/img.ome.zarr")
    pyramid.array(0)
    server.fault("hanging", "/c/")
    begun = [pyramid.start(0, tile(8 * (n // 4), 8 * (n % 4))) for n in range(16)]
    server.wait_for(lambda s: s.unanswered == 16)
    for each in begun:
        each.cancel()
    time.sleep(1)
    ours = server.unanswered
    import tensorstore as ts

    server.reset()
    store = {"driver": "http", "base_url": server.url, "path": "/img.ome.zarr/0/"}
    array = ts.open({"driver": "zarr3", "kvstore": store}, open=True).result()
    server.fault("hanging", "/c/")
    reads = [array[tile(8 * (n // 4), 8 * (n % 4)).slices].read() for n in range(16)]
    server.wait_for(lambda s: s.unanswered >= 4)
    for read in reads:
        read.cancel()
    time.sleep(1)
    row(
        "16 reads cancelled: connections left after 1 s", f"{ours}", f"{server.unanswered} (TensorStore)", "0"
    )
    server.close()


def upload(folder: Path, weed: Weed, prefix: str) -> None:
    client = client_of(f"s3://{BUCKET}", RemoteOptions(endpoint=weed.endpoint))

    async def put_all() -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        await asyncio.gather(
            *(
                client.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
                for path in files
            )
        )

    waited(put_all())


def main() -> None:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="octree-bench-")))
        for name in ("www", "nginx", "weed"):
            (work / name).mkdir()
        folder = work / "www/img.ome.zarr"
        build(image(), folder)
        with (work / "www/img.ozx").open("wb") as stream:
            pack(folder, stream)
        nginx, kept = start_nginx(work / "www", work / "nginx")
        stack.callback(kept.close)
        print(
            f"| {SIZE} x {SIZE} uint16, tiles of {TILE} in shards of 8 x 8, zstd | octree | zarr + obstore | goal |"
        )
        print("|---|---|---|---|")
        port = stack.enter_context(delayed(nginx.port))
        near, far = (f"http://127.0.0.1:{each}/img.ome.zarr" for each in (nginx.port, port))
        throughput(near, far)
        archive = rate_of_reads(open_pyramid(far.replace(".ome.zarr", ".ozx")), scattered(), IN_FLIGHT)
        row(f"the same .ozx, {DELAY_MS} ms away, {IN_FLIGHT} in flight", f"{archive:.0f}", "", "")
        local = rate_of_reads(open_pyramid(work / "www/img.ozx"), scattered(), IN_HAND)
        plain = rate_of_reads(open_pyramid(folder), scattered(), IN_HAND)
        row(
            "tiles/s of the .ozx as a local file",
            f"{local:.0f}",
            f"{plain:.0f} (the folder, TensorStore)",
            "",
        )
        requests(near)
        weed, kept = start_weed(work / "weed")
        stack.callback(kept.close)
        os.environ.update(weed.environment)
        upload(folder, weed, "bench/img.ome.zarr")
        s3_port = stack.enter_context(delayed(weed.port))
        frames(f"s3://{BUCKET}/bench/img.ome.zarr", Weed(s3_port), "bench/img.ome.zarr")
        cancelled(work / "www")


main()
