"""Done-records: what is written is read, torn lines are dropped, strangers are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.building.journal import Header, Journal, TaskSet, changed_facts, read_header
from octree.pyramid.building.task import Hole, Task, TaskResult
from octree.pyramid.errors import DestinationError

HEADER = Header("word", True, {"method": "mean", "shape": [3, 4]}, "p")
BELIEVE = (lambda result: True, lambda result: True)
RESULTS = [
    TaskResult(Task(0, 7), 10, 5, 2),
    TaskResult(Task(1, 0), 0, 1, 1, (Hole((0, 0), (1, 2), 'chunk "é" is\ngone'),)),
]


def written(path: Path) -> bytes:
    journal = Journal.create(path, HEADER)
    for result in RESULTS:
        journal.append(result)
    journal.close()
    return path.read_bytes()


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    assert read_header(path, "p") == HEADER
    journal, done = Journal.load(path, "p", *BELIEVE)
    journal.close()
    assert done.tasks == {Task(0, 7), Task(1, 0)}
    assert (done.bytes_read, done.bytes_written, done.files) == (10, 6, 3)
    assert done.holes == [RESULTS[1].holes[0]]


def test_wherever_the_last_record_is_torn_the_ones_before_count_and_new_ones_follow(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    text = written(path)
    lines = text.splitlines(keepends=True)
    for cut in range(len(lines[0]), len(text)):
        path.write_bytes(text[:cut])
        journal, done = Journal.load(path, "p", *BELIEVE)
        kept = [
            r.task
            for r, end in zip(RESULTS, (len(lines[0] + lines[1]), len(text)), strict=True)
            if end <= cut
        ]
        assert sorted(done.tasks) == kept
        journal.append(TaskResult(Task(0, 9), 1, 1, 1))
        journal.close()
        journal, done = Journal.load(path, "p", *BELIEVE)
        journal.close()
        assert done.tasks == {*kept, Task(0, 9)}


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\n",
        "{}\n",
        '{"octree_journal": 99, "build": "", "aside": 0, "facts": {}, "dest": "p"}\n',
        '{"octree_journal": 3, "dest": "other", "build": "", "aside": 0, "facts": {}}\n',
        "[" * 100_000 + "\n",
    ],
)
def test_a_stranger_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "journal").write_text(text)
    with pytest.raises(DestinationError):
        read_header(tmp_path / "journal", "p")
    assert read_header(tmp_path / "none", "p") is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.builds(Task, st.integers(0, 3), st.integers(0, 300))))
def test_a_set_of_tasks_is_a_set(tasks: list[Task]) -> None:
    found = TaskSet()
    for task in tasks:
        found.add(task)
    assert found == set(tasks)
    assert len(found) == len(set(tasks))
    assert Task(4, 0) not in found
    assert Task(0, 301) not in found


def test_changes_are_named() -> None:
    assert changed_facts({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == [
        "b: 2 then, 3 now",
        "c: null then, 4 now",
    ]


@pytest.mark.parametrize(
    "line",
    [
        '["../../victim",0,1,1,1,[]]',
        '["/etc",0,1,1,1,[]]',
        "[-1,0,1,1,1,[]]",
        "[0,-1,1,1,1,[]]",
        "[0,1.0,1,1,1,[]]",
        "[0,1e400,1,1,1,[]]",
        "[0,NaN,1,1,1,[]]",
        "[true,0,1,1,1,[]]",
        '["0","0",1,1,1,[]]',
        f"[0,{10**18},1,1,1,[]]",
        f"[0,{10**30},1,1,1,[]]",
        f"[0,{'9' * 5000},1,1,1,[]]",
        "[0,0,1,1,1]",
        "[0,0,1,1,1,[],0]",
        '[0,0,1,1,1,"holes"]',
        '[0,0,1,1,1,[{"start":"ab","stop":"cd","error":""}]]',
        '[0,0,1,1,1,[{"start":[-5],"stop":[1],"error":""}]]',
        "[" * 100_000,
        "{}",
        "null",
    ],
)
def test_a_record_with_wild_places_ends_what_is_believed(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal"
    whole = written(path)
    path.write_bytes(whole + line.encode() + b"\n[0,3,1,1,1,[]]\n")

    def possible(result: TaskResult) -> bool:
        return result.task.place < 10**6

    journal, done = Journal.load(path, "p", possible, lambda result: True)
    journal.close()
    assert done.tasks == {Task(0, 7), Task(1, 0)}
    assert path.read_bytes() == whole


def test_a_record_whose_files_are_not_there_counts_once_they_are(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = written(path)
    journal, done = Journal.load(path, "p", lambda result: True, lambda result: result.task.round == 1)
    journal.append(RESULTS[0])
    journal.close()
    assert done.tasks == {Task(1, 0)}
    assert path.read_bytes().startswith(whole)
    journal, done = Journal.load(path, "p", *BELIEVE)
    journal.close()
    assert (done.bytes_read, done.files) == (10, 3)
