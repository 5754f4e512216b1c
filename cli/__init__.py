"""Words for people: the command line. typer and rich live only in this room.

app.py       the application: commands, errors to exit codes, --json on failure
console.py   stdout for data, stderr for everything else
options.py   options that several commands share; a command's options from the tables
option_page.py              docs/options.md from the same tables
progress.py  bars and lines
signals.py   Ctrl-C and SIGTERM: how a command ends early; watchdog.py   ends it when nothing in it can
package/     what ``import octree`` itself gives: the version, and ``build``
build.py  render.py  check.py  info.py  verify.py  doctor.py  demo.py  config.py
             one command each; they import the rooms inside the function, so that --help stays fast
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``octree`` command."""
    import gc
    import sys

    if sys.argv[1:2] == ["build"]:
        from octree.pyramid.memory import use_one_heap

        # before any thread begins, those that watch for signals too: each would have a heap of its own, 40 MiB more
        use_one_heap()
    # importing makes many objects and no garbage: looking through them every 700 took a twentieth of the start
    gc.set_threshold(50_000, 20, 100)
    from octree.cli.signals import watch

    try:
        with watch():
            _main()
    finally:
        gc.freeze()  # when a process ends, Python looks through all that is left for cycles: a tenth of a second for nothing


def _main() -> None:
    import warnings

    from octree.cli.app import end_process, run
    from octree.cli.console import say_warning
    from octree.cli.signals import watchdog
    from octree.pyramid.deadline import may_end_process

    beside = watchdog()
    may_end_process(end_process, beside.opening if beside else None)
    warnings.showwarning = say_warning  # ours, and those of libraries, whose words may be those of a file
    raise SystemExit(run())
