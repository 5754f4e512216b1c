"""The process that takes inputs one after another, within limits of time and memory. Ends at the first finding.

    child.py --place DIR [--seconds N] [--runs N] [--seed N] [TARGET...]     fuzz: coverage-guided where atheris is there
    child.py --place DIR --replay FILE...                                    inputs as they are stored, TARGET/FILE

Every input lies in ``DIR/work``, in a folder of its target; beside it lies a file that must stay as it is. The input
under way is kept in ``DIR/current``, its target's name in the first line, so that it is known whatever ends the process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random

TIME_S = 20  # for one input; on a busy machine, a tenth of it is what any of them takes
MEMORY_BYTES = 2 << 30  # beyond what the process has mapped once everything is imported
MAX_INPUT_BYTES = 1 << 20
GUARD = b"nobody writes here"

atheris = None
if not {"--plain", "--replay"} & set(sys.argv):
    # no wheel for this system: inputs are then changed without looking at what they reach
    with contextlib.suppress(ImportError):
        import atheris

with atheris.instrument_imports(include=["octree"]) if atheris else contextlib.nullcontext():
    from targets import TARGETS, Target, stored

    from octree.pyramid.errors import OctreeError


class Bench:
    """Runs inputs. Owner of ``place``."""

    def __init__(self, place: Path, targets: list[Target]) -> None:
        self.targets, self.current = targets, place / "current"
        self.work = place / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        for target in targets:
            folder = self.work / target.name / "in"
            folder.mkdir(parents=True)
            target.around(folder)
        (self.work / "guard").write_bytes(GUARD)
        os.chdir(self.work)

    def run(self, target: Target, data: bytes) -> None:
        """One input. Raises whatever is no error of octree's, and AssertionError for files that were not there."""
        self.current.write_bytes(target.name.encode() + b"\n" + data)
        folder = self.work / target.name
        path = folder / "in" / target.file
        path.write_bytes(data)
        signal.alarm(TIME_S)  # not handled: a loop in C would not be left otherwise
        try:
            target.run(path)
        except OctreeError as error:
            str(error.to_json())
        finally:
            signal.alarm(0)
        beyond = {entry.name for entry in os.scandir(self.work)} - {
            "guard",
            *(each.name for each in self.targets),
        }
        beyond |= {entry.name for entry in os.scandir(folder)} - {"in"}
        assert not beyond, f"written outside: {beyond}"
        assert (self.work / "guard").read_bytes() == GUARD, "the file beside was written to"


def limit_memory() -> None:
    """From here on the process gets ``MEMORY_BYTES`` of address space more than it has."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def guided(bench: Bench, place: Path, seconds: int, runs: int, seed: int) -> None:
    """With atheris: the first byte of an input is its target."""
    corpus = place / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, target in enumerate(bench.targets):
        for index, data in enumerate([*target.seeds(), *stored(target)]):
            (corpus / f"{target.name}-{index}").write_bytes(bytes([number]) + data)

    def one(data: bytes) -> None:
        if data:
            bench.run(bench.targets[data[0] % len(bench.targets)], data[1:])

    def change(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        first = data[:1] if data and random.random() < 0.9 else bytes([random.randrange(len(bench.targets))])
        target = bench.targets[first[0] % len(bench.targets)]
        body = data[1:] if first == data[:1] else random.choice(target.seeds())
        return (first + target.change(body, random))[:most]

    options = [
        f"-seed={seed}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-timeout=0",
        "-rss_limit_mb=0",
        "-print_final_stats=1",
    ]
    options += [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={place}/",
        "-handle_segv=0",
        "-handle_abrt=0",
    ]
    options += [f"-runs={runs}"] if runs else []
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


def unguided(bench: Bench, seconds: int, runs: int, seed: int) -> None:
    """Without: inputs to begin with, changed a few times over."""
    random, until_s, done = Random(seed), time.monotonic() + seconds, 0
    seeds = {target.name: [*target.seeds(), *stored(target)] for target in bench.targets}
    while time.monotonic() < until_s and (not runs or done < runs):
        target = bench.targets[done % len(bench.targets)]
        data = random.choice(seeds[target.name])
        for _ in range(random.choice((1, 1, 2, 3, 5))):
            data = target.change(data, random)[:MAX_INPUT_BYTES]
        bench.run(target, data)
        done += 1
    print(f"{done} inputs, not coverage-guided", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--replay", type=Path, nargs="*", default=[])
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    known = {target.name: target for target in TARGETS}
    names = asked.targets or [path.parent.name for path in asked.replay] or list(known)
    asked.place.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.place.resolve(), [known[name] for name in dict.fromkeys(names)])
    replay = [
        (known[path.parent.name], path.resolve().read_bytes()) for path in asked.replay if path.is_absolute()
    ]
    limit_memory()
    if asked.replay:
        for target, data in replay:
            bench.run(target, data)
    elif atheris:
        guided(bench, asked.place.resolve(), asked.seconds, asked.runs, asked.seed)
    else:
        unguided(bench, asked.seconds, asked.runs, asked.seed)


if __name__ == "__main__":
    main()
