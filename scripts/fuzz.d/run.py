"""Fuzz for a given time: start the child again after each finding, keep the inputs, say what happened.

    run.py [--seed N] [--keep-going] [SECONDS] [TARGET...]

Findings go to ``fuzz-findings/TARGET/DIGEST``, with what was said in ``DIGEST.txt``. To keep one as a test, move the input
to ``tests/fuzz/TARGET/NAME`` (and mend what it found). Exit code 1 when there were any."""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("child.py")
FINDINGS = ROOT / "fuzz-findings"
START_S = 60  # the child imports what is fuzzed and makes the inputs to begin with
ANYTHING_ELSE = 3  # seconds: less is not worth a start


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("seconds", type=int, nargs="?", default=600)
    parser.add_argument("targets", metavar="target", nargs="*")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 2**31)
    parser.add_argument("--keep-going", action="store_true", help="go on after a finding, for other ones")
    parser.add_argument("--plain", action="store_true", help="without coverage, also where atheris is there")
    asked = parser.parse_args()
    print(
        f"fuzzing for {asked.seconds} s with seed {asked.seed}: {', '.join(asked.targets) or 'all targets'}"
    )
    until_s, seed, places = time.monotonic() + asked.seconds, asked.seed, set[str]()
    with tempfile.TemporaryDirectory(prefix="octree-fuzz-") as folder:
        while (left_s := int(until_s - time.monotonic())) > ANYTHING_ELSE or seed == asked.seed:
            words = ["--place", folder, "--seconds", str(left_s), "--seed", str(seed), *asked.targets]
            said, code = run_child([*words, "--plain"] if asked.plain else words, left_s)
            seed += 1
            if code == 0:
                count = re.search(r"stat::number_of_executed_units: (\d+)|(\d+) inputs, ", said)
                ran = int(count[1] or count[2]) if count else 0
                print(f"{ran} inputs in {left_s} s without a finding")
                if not ran:
                    print(said[-2000:])
                    return 1
                break
            place = where(said)
            if place not in places:
                keep(Path(folder, "current"), said, place)
                places.add(place)
            if not asked.keep_going:
                break
    print(f"{len(places)} findings" + (f", in {FINDINGS}" if places else ""))
    return 1 if places else 0


def run_child(words: list[str], seconds: int) -> tuple[str, int]:
    command = [sys.executable, str(CHILD), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=seconds + START_S, check=False, cwd=CHILD.parent
        )
    except subprocess.TimeoutExpired as late:
        return (late.stderr or b"").decode(errors="replace") + "\ndid not end in time", 1
    return done.stderr.decode(errors="replace"), done.returncode


def where(said: str) -> str:
    """The deepest line of ours in a traceback and the error's name: what makes two findings one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    frames = re.findall(r'File "[^"]*/(?:pyramid|render)/([\w/.]+)", line (\d+)', said)
    error = next(
        (line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)), ""
    )
    return f"{error.split(':')[0] or 'ended by a signal or a limit'} at {':'.join(frames[-1]) if frames else '?'}"


def keep(current: Path, said: str, place: str) -> None:
    name, _, data = current.read_bytes().partition(b"\n")
    folder = FINDINGS / name.decode()
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()[:12]
    (folder / digest).write_bytes(data)
    (folder / f"{digest}.txt").write_text(f"{place}\n\n{said[-8000:]}", encoding="utf-8")
    print(f"{name.decode()}: {place}\n  kept as {folder / digest}")


if __name__ == "__main__":
    sys.exit(main())
