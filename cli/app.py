"""The application: one command per file, errors to exit codes, a traceback only with ``--debug``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from octree.cli.console import flush_out, print_error, say
from octree.cli.options import Command, debug_wanted, json_wanted
from octree.pyramid.errors import Interrupted, OctreeError, SourceError, UsageError, WriteError
from octree.pyramid.foreign import printable
from octree.pyramid.memory import out_of_memory

READER_GONE = 128 + 13  # what a shell sees of a program that SIGPIPE ended
COMMANDS = ("build", "info", "verify", "render", "check", "doctor", "demo", "config")
"""Each is a function of that name in the file of that name."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("octree"))
        raise typer.Exit


def _octree(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code. Prints errors itself."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug_wanted.set(False)
    json_wanted.set("--json" in args)
    _open_streams()
    try:
        _check_address_space(args[0] if args else "")
        # not standalone: exit codes and words of errors are ours, not the library's
        code = _application(args).main(args, standalone_mode=False, prog_name="octree")
        flush_out()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _without_reader()
    except SystemExit as ended:  # what the library makes of it
        if isinstance(ended.__context__, BrokenPipeError):
            return _without_reader()
        raise
    except (Exception, KeyboardInterrupt) as failure:
        return _report(failure)


def _open_streams() -> None:
    """A shell may start us with stdin, stdout or stderr closed. The next file opened would get its number, and whatever
    a library prints would be written into it: something harmless gets the number first."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 for as long as the process lives


ADDRESS_SPACE_MIB = {"build": 400, "info": 240, "verify": 640, "render": 2048, "check": 2048, "demo": 2048}
"""What a command takes of it at least. With less, libraries end the process where no error can be reported.

Measured on two cores as VmPeak of the command on an image of 50 pixels: build 254, info 279, verify 586, render 1048; and the
least with which it ended well: build 400, info 180, verify 600, render 900. Each core more takes 40 MiB (stacks of threads),
in render 390 with the heaps of its threads, without which the allocator does where there is no room. What an image takes comes on
top, and is compared with what is left when it is known (``memory.check_room``)."""


def _check_address_space(command: str) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = ADDRESS_SPACE_MIB.get(command, 0)
    if limit != resource.RLIM_INFINITY and limit < least * 2**20:
        raise WriteError(
            f"octree {command} needs {least} MiB of address space; this process may have {limit // 2**20} MiB",
            hint="raise the limit (ulimit -v unlimited); --memory and --max-decoded limit what is really used",
        )


def _without_reader() -> int:
    """The reader of our stdout went away, as `| head` does: nothing more can be said there. As other programs end
    that SIGPIPE ends: a verdict that nobody heard must not be taken for a good one."""
    _drop_stdout()
    return READER_GONE


def _drop_stdout() -> None:
    """What is still buffered for stdout cannot be written, and would fail once more at the end of the process."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _application(args: Sequence[str]) -> Any:
    """The commands, with OCTREE_<COMMAND>_<OPTION> behind every option. By the option's long name: that of the
    Python parameter, which the library would take, is another one for ``--json``.

    Only the command that is called is made: all of them would cost a tenth of a short run.
    """
    app = typer.Typer(
        name="octree",
        help="Build tile pyramids of images of any size, render frames of them without a screen, "
        "and keep frames from changing unnoticed.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_octree)
    for name in args[:1] if args[:1] and args[0] in COMMANDS else COMMANDS:
        app.command(cls=Command)(getattr(import_module(f"octree.cli.{name}"), name))
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        for option in command.params:
            long = [word[2:] for word in option.opts if word.startswith("--")]
            if long and long[0] != "help":
                option.envvar = f"OCTREE_{name}_{long[0]}".upper().replace("-", "_")
                option.show_envvar = False
        command.epilog = f"Every option can come from OCTREE_{name.upper()}_<OPTION> in the environment."
    return group


def _report(failure: BaseException) -> int:
    if isinstance(failure, typer.Exit):
        return failure.exit_code
    error = _as_octree_error(failure)
    if debug_wanted.get():
        import traceback

        for part in traceback.format_exception(failure):
            for line in part.splitlines():
                say(line)
    print_error(error, as_json=json_wanted.get())
    try:
        flush_out()
    except (WriteError, BrokenPipeError):
        _drop_stdout()
    return error.exit_code


_NO_SPACE = (WriteError, "free some space, or write elsewhere")
_OF_THE_SYSTEM: dict[int | None, tuple[type[OctreeError], str]] = {
    errno.ENAMETOOLONG: (UsageError, "no file can have a name of that length"),
    errno.ELOOP: (SourceError, "the links lead in a circle"),
    errno.EMFILE: (SourceError, "raise the limit of open files (ulimit -n), or give fewer --workers"),
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: _NO_SPACE,
}
"""What the system refuses wherever it is asked, and what is then to be done."""


def end_process(error: OctreeError) -> None:
    """Say what is wrong and end at once, whatever other threads are at: one of them will never come back."""
    code = _report(error)
    sys.stderr.flush()
    os._exit(code)


def _as_octree_error(failure: BaseException) -> OctreeError:
    if isinstance(failure, OctreeError):
        return failure
    if isinstance(failure, KeyboardInterrupt | typer.Abort):
        return Interrupted("interrupted")
    if isinstance(failure, typer.TyperException):
        context = getattr(failure, "ctx", None)
        path = context.command_path if context else "octree"
        return UsageError(failure.format_message(), hint=f"see '{path} --help'")
    # no room for the stack of a thread is what Python calls a RuntimeError
    if isinstance(failure, MemoryError) or str(failure) == "can't start new thread":
        return out_of_memory()
    if isinstance(failure, OSError) and failure.errno in _OF_THE_SYSTEM:
        kind, hint = _OF_THE_SYSTEM[failure.errno]
        where = f"{printable(failure.filename, 120)}: " if failure.filename else ""
        return kind(f"{where}{failure.strerror}", hint=hint)
    if isinstance(failure, ValueError) and str(failure) == "embedded null byte":
        return UsageError("a path holds a null character", hint="no file has such a name")
    return OctreeError(
        f"internal error: {type(failure).__name__}: {failure}",
        hint="this is a bug in octree; run again with --debug and report what it prints",
    )
