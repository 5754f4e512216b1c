"""A build at any moment: killed, interrupted, out of space, twice at once, over something that is there."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import image, leftovers, levels_of, octree, octree_json, start, tree

from octree.pyramid import build, open_pyramid
from octree.pyramid.building import destination as destination_module
from octree.pyramid.building.destination import places_of
from octree.pyramid.building.journal import Journal
from octree.pyramid.errors import DestinationError, Interrupted, SourceError, WriteError
from octree.pyramid.store.arrays import LevelWriter

OPTIONS = ["--tile", "32", "--shard", "1", "--workers", "2", "--name", "n"]
TASKS = 4 * 4 + 1  # of an image of 1000 x 1000 in blocks of 256, and the coarse rest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "image.npy"
    np.save(path, image((1000, 1000)))
    return path


@pytest.fixture
def undisturbed(tmp_path: Path, source: Path) -> dict[str, str]:
    build(str(source), tmp_path / "undisturbed", tile=32, shard=1, name="n")
    return tree(tmp_path / "undisturbed")


def stop_after(count: int) -> Any:
    """A ``stop`` that says yes when that many tasks have been done."""
    calls = iter(range(10**6))
    return lambda: next(calls) >= count


def part_of_a_build(source: Any, dest: Path, **options: Any) -> None:
    with pytest.raises(Interrupted):
        build(source, dest, tile=32, shard=1, workers=1, name="n", stop=stop_after(4), **options)


def kill_when(process: subprocess.Popen[str], journal: Path, records: int) -> None:
    """SIGKILL as soon as the journal holds that many records, or the process has ended by itself."""
    while process.poll() is None:
        try:
            done = journal.read_bytes().count(b"\n") - 1
        except FileNotFoundError:
            done = -1
        if done >= records:
            break
        time.sleep(0.001)  # only to leave the cores to what is watched
    process.kill()
    process.communicate()


def build_with_kills(source: Path, dest: Path, kills: list[int], extra: tuple[str, ...] = ()) -> Any:
    """Kill the real command at each of these counts of records, then let it finish."""
    command = ["build", source, dest, *OPTIONS, *extra, "--resume"]
    for records in kills:
        kill_when(start(*command), places_of(dest).journal, records)
        assert not (dest / "zarr.json").exists() or extra or not places_of(dest).journal.exists()
    return octree_json(*command)


def test_killed_three_times_and_resumed_is_byte_for_byte_the_same(
    tmp_path: Path, source: Path, undisturbed: dict[str, str]
) -> None:
    dest = tmp_path / "killed"
    result = build_with_kills(source, dest, [0, 4, 11])
    assert result["resumed"] is True
    assert tree(dest) == undisturbed
    assert leftovers(dest) == []
    assert result["bytes_read"] == 2_000_000


@pytest.mark.slow
def test_killed_at_random_moments_more_than_twenty_times(
    tmp_path: Path, source: Path, undisturbed: dict[str, str]
) -> None:
    rng = random.Random(20)
    for run in range(6):
        dest = tmp_path / f"killed-{run}"
        build_with_kills(source, dest, sorted(rng.randrange(-1, TASKS + 1) for _ in range(4)))
        assert tree(dest) == undisturbed
        assert leftovers(dest) == []


def test_until_the_end_no_reader_takes_the_folder_for_a_pyramid(tmp_path: Path, source: Path) -> None:
    dest, seen = tmp_path / "p", []

    def look(progress: Any) -> None:
        with pytest.raises(SourceError):
            open_pyramid(dest)
        seen.append(progress.tasks_done)

    build(str(source), dest, tile=32, shard=1, workers=1, progress=look)
    assert len(seen) > 3
    assert seen == sorted(set(seen))
    assert (seen[0], seen[-1]) == (0, TASKS)
    assert len(open_pyramid(dest).spec.levels) == 6


def test_a_journal_that_cannot_be_read_is_refused_and_forgotten_by_overwrite(tmp_path: Path) -> None:
    dest = tmp_path / "p"
    build(image((40, 40)), dest)
    places_of(dest).journal.write_text('{"octree_journal": 3, "dest": "p", from another time\n')
    for options in ({}, {"resume": True}):
        with pytest.raises(DestinationError, match="journal"):
            build(image((40, 40)), dest, **options)
    build(image((50, 50)), dest, overwrite=True)
    assert open_pyramid(dest).spec.levels[0].shape == (50, 50)
    assert leftovers(dest) == []


@pytest.mark.parametrize("marker", ["", '{"octree_mar', '{"octree_marker": 1, "dest": "p", "build": "b"}\n'])
def test_killed_before_anything_but_the_marker_was_written(
    tmp_path: Path, source: Path, undisturbed: dict[str, str], marker: str
) -> None:
    dest = tmp_path / "p"
    part_of_a_build(str(source), dest)
    shutil.rmtree(dest)
    dest.mkdir()
    (dest / destination_module.MARKER).write_text(marker)
    build(str(source), dest, tile=32, shard=1, name="n", resume=True)
    assert tree(dest) == undisturbed
    assert leftovers(dest) == []


def test_resume_does_only_what_is_missing(tmp_path: Path, source: Path, undisturbed: dict[str, str]) -> None:
    dest = tmp_path / "p"
    part_of_a_build(str(source), dest)
    before = {p: p.stat().st_mtime_ns for p in (dest / "0/c").rglob("*") if p.is_file()}
    assert before
    result = build(str(source), dest, tile=32, shard=1, name="n", resume=True)
    assert result.resumed
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert tree(dest) == undisturbed


def test_a_torn_record_is_done_again(tmp_path: Path, source: Path, undisturbed: dict[str, str]) -> None:
    dest = tmp_path / "p"
    part_of_a_build(str(source), dest)
    journal = places_of(dest).journal
    journal.write_bytes(journal.read_bytes()[:-5])
    assert build(str(source), dest, tile=32, shard=1, name="n", resume=True).resumed
    assert tree(dest) == undisturbed


def test_torn_shards_of_tasks_without_a_record_are_written_anew(tmp_path: Path, source: Path) -> None:
    options: dict[str, Any] = {"tile": 32, "shard": 2, "name": "n", "workers": 1}
    dest, calls = tmp_path / "p", iter(range(99))
    build(str(source), tmp_path / "undisturbed", **options)
    with pytest.raises(Interrupted):
        build(str(source), dest, stop=lambda: next(calls) >= 2, **options)
    # shards at the edge hold chunks that reach beyond the image: those are merged with what lies there
    for place in ("0/c/15/15", "0/c/15/3", "1/c/7/7"):
        assert not (dest / place).exists()
        (dest / place).parent.mkdir(parents=True, exist_ok=True)
        (dest / place).write_bytes(b"torn")
        (dest / (place + ".__lock")).write_bytes(b"half")
    build(str(source), dest, resume=True, **options)
    assert tree(dest) == tree(tmp_path / "undisturbed")
    assert leftovers(dest) == []


def first_files(dest: Path) -> list[Path]:
    return sorted(p for p in (dest / "0/c").rglob("*") if p.is_file())


def forget(dest: Path) -> None:
    first_files(dest)[0].unlink()


def cut(dest: Path) -> None:
    file = first_files(dest)[0]
    file.write_bytes(file.read_bytes()[:-1])


def empty(dest: Path) -> None:
    first_files(dest)[0].write_bytes(b"")


def zeros(dest: Path) -> None:
    """As after a crash of the system: the length is there, the bytes are not."""
    file = first_files(dest)[0]
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))


def no_index(dest: Path) -> None:
    file = first_files(dest)[0]
    file.write_bytes(file.read_bytes()[:-20] + bytes(16) + file.read_bytes()[-4:])


def moved_bytes(dest: Path) -> None:
    one, other = (file for file in first_files(dest)[:2])
    other.write_bytes(one.read_bytes()[:7] + other.read_bytes())
    one.write_bytes(one.read_bytes()[7:])


def link(dest: Path) -> None:
    file = first_files(dest)[0]
    file.rename(dest.parent / "elsewhere")
    file.symlink_to(dest.parent / "elsewhere")


def link_row(dest: Path) -> None:
    row = dest / "0/c/0"
    row.rename(dest.parent / "row")
    row.symlink_to(dest.parent / "row")


def claim(line: str) -> Any:
    def add(dest: Path) -> None:
        with places_of(dest).journal.open("a") as journal:
            journal.write(line + "\n")

    return add


DAMAGES = {
    "a file is gone": forget,
    "a file is cut short": cut,
    "a file is empty": empty,
    "the end of a file became zeros": zeros,
    "the index of a shard became zeros, but for its checksum": no_index,
    "one file is longer and one shorter": moved_bytes,
    "a file became a link": link,
    "work that is not there, with files": claim('[0,9,131072,500,5,"",[]]'),
    "work that is not there, without files": claim('[0,9,131072,0,0,"",[]]'),
    "work that is not there, of another size": claim('[0,9,0,0,0,"",[]]'),
    "all of it": lambda dest: [claim(f'[0,{place},131072,0,0,"",[]]')(dest) for place in range(16)],
    "a place beyond the plan": claim('[0,16,131072,500,5,"",[]]'),
    "a round beyond the plan": claim('[7,0,0,500,5,"",[]]'),
    "a place beyond all memory": claim('[0,9000000000000000000,131072,500,5,"",[]]'),
    "a hole beyond the image": claim('[0,9,131072,0,0,"",[{"start":[0,0],"stop":[9999,9],"error":""}]]'),
    "a path for a place": claim('[0,"../../victim",131072,500,5,"",[]]'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_believes_no_record_that_the_disk_does_not_bear_out(
    tmp_path: Path, source: Path, undisturbed: dict[str, str], damage: str
) -> None:
    dest = tmp_path / "p"
    part_of_a_build(str(source), dest)
    DAMAGES[damage](dest)
    result = build(str(source), dest, tile=32, shard=1, name="n", resume=True)
    assert tree(dest) == undisturbed
    assert result.bytes_read == 2_000_000
    assert not any(path.is_symlink() for path in dest.rglob("*"))
    assert leftovers(dest) == []


@pytest.mark.parametrize("name", ["0", "0/c/0", "3"])
def test_resume_writes_through_no_link(tmp_path: Path, source: Path, name: str) -> None:
    dest, victim = tmp_path / "p", tmp_path / "victim"
    part_of_a_build(str(source), dest)
    victim.mkdir()
    (dest / name).rename(tmp_path / "moved")
    (dest / name).symlink_to(victim)
    done = octree("build", source, dest, *OPTIONS, "--resume")
    assert done.returncode in (4, 5), done.stderr
    assert str(dest / name) in done.stderr
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"method": "max"}, "method"),
        ({"codec": "zstd:5"}, "codec"),
        ({"tile": 64}, "levels"),
        ({"nodata": 3}, "nodata"),
        ({"voxel_size": {"y": 2.0, "x": 2.0}}, "scale"),
        ({"name": "other"}, "name"),
        ({"ome_version": "0.4"}, "ome_version"),
    ],
)
def test_resume_with_other_options_is_refused_and_names_them(
    tmp_path: Path, source: Path, change: dict[str, Any], word: str
) -> None:
    dest = tmp_path / "p"
    part_of_a_build(str(source), dest)
    before = tree(dest)
    with pytest.raises(DestinationError, match=word):
        build(str(source), dest, **{"tile": 32, "shard": 1, "name": "n", "resume": True} | change)
    assert tree(dest) == before


def test_resume_with_another_source_is_refused(tmp_path: Path, source: Path) -> None:
    part_of_a_build(str(source), tmp_path / "p")
    np.save(source, image((1000, 1000), seed=1))
    os.utime(source, ns=(1, 1))
    with pytest.raises(DestinationError, match="source"):
        build(str(source), tmp_path / "p", tile=32, shard=1, name="n", resume=True)


@pytest.fixture
def zarr_source(tmp_path: Path) -> Path:
    build(image((1000, 1000)), tmp_path / "image.zarr", tile=128, shard=0)
    return tmp_path / "image.zarr"


def change_one_chunk(folder: Path) -> None:
    """Of level 0, which is what is read; a second later than everything else."""
    file = folder / "0/c/3/5"
    other = (folder / "0/c/3/4").read_bytes()
    now_ns = max(path.stat().st_mtime_ns for path in folder.parent.rglob("*"))
    file.write_bytes(other)
    os.utime(file, ns=(now_ns + 10**9, now_ns + 10**9))


def test_resume_with_a_changed_zarr_folder_is_refused(tmp_path: Path, zarr_source: Path) -> None:
    part_of_a_build(str(zarr_source), tmp_path / "p")
    change_one_chunk(zarr_source)
    with pytest.raises(DestinationError, match="source"):
        build(str(zarr_source), tmp_path / "p", tile=32, shard=1, name="n", resume=True)


def test_a_finished_pyramid_of_a_changed_zarr_folder_is_not_taken_for_this_build(
    tmp_path: Path, zarr_source: Path
) -> None:
    build(str(zarr_source), tmp_path / "p")
    assert build(str(zarr_source), tmp_path / "p", resume=True).resumed
    change_one_chunk(zarr_source)
    with pytest.raises(DestinationError, match="source: changed since"):
        build(str(zarr_source), tmp_path / "p", resume=True)


def test_resume_with_other_workers_and_memory_is_the_same_build(
    tmp_path: Path, source: Path, undisturbed: dict[str, str]
) -> None:
    part_of_a_build(str(source), tmp_path / "p")
    build(str(source), tmp_path / "p", tile=32, shard=1, name="n", resume=True, workers=3, memory="2GiB")
    assert tree(tmp_path / "p") == undisturbed


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_resume_of_nothing_begins_and_of_a_finished_build_ends_at_once(
    tmp_path: Path, source: Path, version: str
) -> None:
    dest = tmp_path / "p"
    assert not build(str(source), dest, resume=True, ome_version=version).resumed
    before = tree(dest)
    again = build(str(source), dest, resume=True, ome_version=version)
    assert again.resumed
    assert again.bytes_written == 0
    assert tree(dest) == before
    with pytest.raises(DestinationError, match="nothing to resume"):
        build(str(source), dest, resume=True, tile=32)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"nodata": 7}, "nodata"), ({"name": "n"}, "name"), ({"ome_version": "0.4"}, "ome_version")],
)
def test_a_finished_pyramid_of_other_options_is_not_taken_for_this_build(
    tmp_path: Path, source: Path, change: dict[str, Any], word: str
) -> None:
    build(str(source), tmp_path / "p", shard=0)
    before = tree(tmp_path / "p")
    with pytest.raises(DestinationError, match=f"nothing to resume .*{word}: "):
        build(str(source), tmp_path / "p", shard=0, resume=True, **change)
    assert tree(tmp_path / "p") == before


def test_an_interrupted_build_is_neither_mixed_nor_lost_without_a_word(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "p"
    part_of_a_build(str(source), dest)
    with pytest.raises(DestinationError, match="interrupted"):
        build(str(source), dest)
    build(str(source), dest, overwrite=True)
    assert leftovers(dest) == []
    assert open_pyramid(dest).spec.levels[0].chunks == (256, 256)


@pytest.mark.parametrize("records", [0, 5, TASKS - 1])
def test_a_killed_overwrite_leaves_the_old_pyramid_and_can_be_resumed(
    tmp_path: Path, source: Path, undisturbed: dict[str, str], records: int
) -> None:
    dest = tmp_path / "p"
    build(image((70, 70)), dest)
    old = tree(dest)
    kill_when(start("build", source, dest, *OPTIONS, "--overwrite"), places_of(dest).journal, records)
    if places_of(dest).journal.exists():
        assert tree(dest) in (old, undisturbed)
    build(str(source), dest, tile=32, shard=1, name="n", overwrite=True, resume=True)
    assert tree(dest) == undisturbed
    assert leftovers(dest) == []


@pytest.mark.parametrize("at_once", [True, False])
def test_overwrite_changes_places_at_the_end(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(destination_module, "exchange_at_once", lambda *names: False)
    dest = tmp_path / "p"
    build(image((70, 70)), dest)
    old = tree(dest)
    build(
        str(source),
        dest,
        overwrite=True,
        progress=lambda p: None if tree(dest) == old else pytest.fail("DEST changed"),
    )
    assert open_pyramid(dest).spec.levels[0].shape == (1000, 1000)
    assert leftovers(dest) == []


def test_killed_between_the_exchange_and_the_tidying(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, str]
) -> None:
    dest = tmp_path / "p"
    build(image((70, 70)), dest)

    def killed(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(destination_module, "_remove_replaced", killed)
        with pytest.raises(KeyboardInterrupt):
            build(str(source), dest, tile=32, shard=1, name="n", overwrite=True)
    assert leftovers(dest) != []
    assert build(str(source), dest, tile=32, shard=1, name="n", resume=True).resumed
    assert tree(dest) == undisturbed
    assert leftovers(dest) == []


def test_a_failed_overwrite_leaves_the_old_pyramid(tmp_path: Path) -> None:
    dest = tmp_path / "p"
    build(image((70, 70)), dest)
    old = tree(dest)
    with pytest.raises(SourceError):
        build(str(tmp_path / "nowhere.tif"), dest, overwrite=True)
    assert tree(dest) == old
    assert leftovers(dest) == []


def test_dest_that_exists_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    array, dest = image((40, 40)), tmp_path / "p"
    dest.mkdir()
    build(array, dest)
    before = tree(dest)
    for options in ({}, {"resume": False}):
        with pytest.raises(DestinationError, match="not empty"):
            build(array, dest, **options)
    assert tree(dest) == before
    file = tmp_path / "file"
    file.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DestinationError, match="not a folder"):
            build(array, file, overwrite=overwrite)
    assert file.read_text() == "mine"


def test_overwrite_spares_folders_that_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work/here").mkdir(parents=True)
    (tmp_path / "work/mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "work/here")
    with pytest.raises(DestinationError, match="in use"):
        build(image((9, 9)), tmp_path / "work", overwrite=True)
    assert (tmp_path / "work/mine.txt").read_text() == "mine"


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_folder_where_the_journal_should_be_is_said_plainly(
    tmp_path: Path, options: dict[str, bool]
) -> None:
    places_of(tmp_path / "p").journal.mkdir()
    with pytest.raises(DestinationError, match="octree-journal cannot be read"):
        build(image((9, 9)), tmp_path / "p", **options)


def test_source_and_dest_may_not_contain_one_another(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    build(image((40, 40)), folder / "s.zarr")
    (tmp_path / "link").symlink_to(folder)
    before = tree(folder)
    for dest in (
        folder / "s.zarr",
        folder / "s.zarr/new",
        folder,
        tmp_path / "link",
        tmp_path / "link/s.zarr/0",
    ):
        with pytest.raises(DestinationError, match=r"contain one another|are the same"):
            build(str(folder / "s.zarr"), dest, overwrite=True)
    assert tree(folder) == before


def test_a_second_build_of_one_dest_is_refused(tmp_path: Path, source: Path) -> None:
    dest, refused = tmp_path / "p", []

    def second(progress: Any) -> None:
        if progress.tasks_done and not refused:
            refused.append(octree("build", source, dest, "--overwrite"))

    build(str(source), dest, tile=32, shard=1, workers=1, progress=second)
    assert refused[0].returncode == 4
    assert f"process {os.getpid()}" in refused[0].stderr


def test_a_stale_lock_is_taken_over_and_a_held_one_is_not(tmp_path: Path) -> None:
    dest = tmp_path / "p"
    lock = places_of(dest).lock
    lock.write_text("process 1 on elsewhere")
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DestinationError, match="process 1 on elsewhere"):
            build(image((40, 40)), dest)
    build(image((40, 40)), dest)
    assert leftovers(dest) == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_finishes_what_is_under_way_and_prints_how_to_resume(
    tmp_path: Path, source: Path, undisturbed: dict[str, str], signal_number: int
) -> None:
    dest = tmp_path / "a b"
    process = start("build", source, dest, *OPTIONS, "--progress", "json", "--workers", "1")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert json.loads(first)["progress"]["tasks_done"] == 0
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.fail("the build ended before the signal came")
    assert process.returncode == 130
    assert "--resume" in errors
    assert f"'{dest}'" in errors
    assert octree_json("build", source, dest, *OPTIONS, "--resume")["dest"] == str(dest)
    assert tree(dest) == undisturbed


def limit_file_size(size: int) -> Any:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_is_exit_5_and_says_what_is_needed_and_free(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "p"
    failed = octree("build", source, dest, "--codec", "none", "--json", preexec_fn=limit_file_size(1_500_000))
    assert failed.returncode == 5
    error = json.loads(failed.stdout)["error"]
    assert error["kind"] == "write"
    assert error["bytes_needed"] > 0
    assert error["bytes_free"] > 0
    assert "resume" in error["hint"]
    assert "Traceback" not in failed.stderr
    octree_json("build", source, dest, "--codec", "none", "--resume")
    np.testing.assert_array_equal(levels_of(dest)[0], np.load(source))


def test_a_disk_that_fills_up_in_the_middle_keeps_what_is_done(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, str]
) -> None:
    dest, real = tmp_path / "p", Journal.append
    calls = iter(range(100))

    def append(self: Journal, result: Any) -> None:
        if next(calls) == 6:
            raise WriteError("the journal cannot be written: No space left on device")
        real(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        with pytest.raises(WriteError, match="no space") as caught:
            build(str(source), dest, tile=32, shard=1, name="n", workers=1)
    # level 0 compresses to a known share by now, so the estimate is near what was still to come
    whole = sum(p.stat().st_size for p in (tmp_path / "undisturbed").rglob("c/**/*") if p.is_file())
    assert 0.3 * whole < caught.value.details["bytes_needed"] < whole
    assert build(str(source), dest, tile=32, shard=1, name="n", resume=True).resumed
    assert tree(dest) == undisturbed


def test_a_first_task_that_cannot_be_written_is_gone_on_with(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, str]
) -> None:
    """Other chunks of it may still be on their way to the disk: removing the folder now would leave them in a
    DEST that nobody knows."""

    def wait(self: LevelWriter, future: Any) -> None:
        raise WriteError("level 0 cannot be written: No space left on device")

    dest = tmp_path / "p"
    with monkeypatch.context() as patch:
        patch.setattr(LevelWriter, "wait", wait)
        with pytest.raises(WriteError, match="no space"):
            build(str(source), dest, tile=32, shard=1, name="n")
    assert build(str(source), dest, tile=32, shard=1, name="n", resume=True).resumed
    assert tree(dest) == undisturbed


def test_no_space_for_the_first_file_says_what_is_needed_too(tmp_path: Path, source: Path) -> None:
    failed = octree("build", source, tmp_path / "p", "--json", preexec_fn=limit_file_size(100))
    assert failed.returncode == 5
    assert json.loads(failed.stdout)["error"]["bytes_needed"] > 0
    assert leftovers(tmp_path / "p") == []
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("dest", ["file/p", "file/deep/p", "/proc/octree-test/p"])
def test_a_dest_that_cannot_be_made_is_exit_4(tmp_path: Path, dest: str) -> None:
    (tmp_path / "file").write_text("mine")
    done = octree("build", tmp_path / "image.npy", tmp_path / dest, cwd=tmp_path)
    assert done.returncode == 3  # there is no such source
    np.save(tmp_path / "image.npy", image((9, 9)))
    done = octree("build", tmp_path / "image.npy", tmp_path / dest, cwd=tmp_path)
    assert done.returncode == 4
    assert "internal" not in done.stderr
