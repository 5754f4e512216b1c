"""Traces and the monitor: what they write, from several threads, and that nothing is written when off."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from report_cases import frame

from octree.pyramid.errors import DestinationError, WriteError
from octree.render.report.monitor import Monitor
from octree.render.report.trace import NULL_TRACE, Trace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_spans_counters_and_threads_are_a_chrome_trace(tmp_path: Path) -> None:
    clock = Clock()
    trace = Trace(clock)
    with trace.span("plan", level=3):
        clock.now_s += 0.002
        with trace.span("inner"):
            clock.now_s += 0.001
    trace.counter("queue", 4)
    trace.counter("bytes", cache=1, atlas=2)
    trace.instant("cancel", tiles=2)
    worker = threading.Thread(
        target=lambda: trace.complete("load", 100.001, 0.5, key=(1, 2)), name="octree-load-0"
    )
    worker.start()
    worker.join()
    trace.write(tmp_path / "sub" / "t.json")
    document = json.loads((tmp_path / "sub" / "t.json").read_bytes())
    events = {event["name"]: event for event in document["traceEvents"] if event["ph"] != "M"}
    assert events["plan"] | {"pid": 0} == {
        "ph": "X", "name": "plan", "pid": 0, "tid": 1, "ts": 0.0, "dur": 3000.0, "args": {"level": 3},
    }  # fmt: skip
    assert (events["inner"]["ts"], events["inner"]["dur"]) == (2000.0, 1000.0)
    assert events["queue"]["ph"] == "C"
    assert events["queue"]["args"] == {"value": 4}
    assert events["bytes"]["args"] == {"cache": 1, "atlas": 2}
    assert (events["cancel"]["ph"], events["cancel"]["s"]) == ("i", "t")
    assert (events["load"]["tid"], events["load"]["ts"], events["load"]["args"]) == (
        2,
        1000.0,
        {"key": [1, 2]},
    )
    names = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    assert names == {1: threading.current_thread().name, 2: "octree-load-0"}


def test_a_span_is_kept_when_its_block_raises() -> None:
    trace = Trace()
    with pytest.raises(KeyError), trace.span("load"):
        raise KeyError
    assert [event["name"] for event in trace.to_json()["traceEvents"] if event["ph"] == "X"] == ["load"]


def test_no_event_of_many_threads_is_lost() -> None:
    trace = Trace()

    def work() -> None:
        for _ in range(500):
            with trace.span("x"):
                trace.counter("n", 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = [event["ph"] for event in trace.to_json()["traceEvents"]]
    assert (kinds.count("X"), kinds.count("C")) == (4000, 4000)


def test_a_null_trace_keeps_and_writes_nothing(tmp_path: Path) -> None:
    with NULL_TRACE.span("plan", level=1):
        NULL_TRACE.counter("n", 1)
        NULL_TRACE.instant("i")
        NULL_TRACE.complete("c", 0, 1)
    NULL_TRACE.write(tmp_path / "t.json")
    assert not NULL_TRACE.enabled
    assert list(tmp_path.iterdir()) == []
    assert NULL_TRACE.span("a") is NULL_TRACE.span("b")


def test_a_trace_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError):
        Trace().write(tmp_path / "file" / "t.json")


# the monitor


def test_the_monitor_writes_a_line_per_frame_at_once(tmp_path: Path) -> None:
    file = tmp_path / "new" / "m.jsonl"
    with Monitor(str(file)) as monitor:
        monitor.frame(frame(0), queued=3)
        first = json.loads(file.read_text())
        monitor.frame(frame(1))
        monitor.end({"frames": 2})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert first == lines[0]
    assert (lines[0]["event"], lines[0]["index"], lines[0]["queued"]) == ("frame", 0, 3)
    assert lines[0]["coverage"]["ideal"] == 1
    assert lines[2] == {"event": "end", "totals": {"frames": 2}}


def test_the_monitor_writes_to_stdout_and_leaves_it_open() -> None:
    out = io.StringIO()
    with Monitor("-", stdout=out) as monitor:
        monitor.frame(frame(0))
    assert json.loads(out.getvalue())["index"] == 0


def test_a_monitor_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(DestinationError):
        Monitor(str(tmp_path))

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match="No space"):
        Monitor("-", stdout=Full()).frame(frame(0))
