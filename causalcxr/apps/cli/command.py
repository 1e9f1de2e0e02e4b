"""Run a command line: one line for an error, and an exit status for scripts."""

import errno
import os
import re
import sys
from collections.abc import Sequence

import typer

from causalcxr.common.errors import CausalCXRError
from causalcxr.common.terminal import visible, visible_streams

__all__ = ["guarded"]

_HINTS = {
    errno.ENOSPC: "; make room, then give the same command again",
    errno.EMFILE: "; raise the limit with `ulimit -n`, then give the same command again",
}
# torch raises a plain RuntimeError where the memory of the processor is exhausted.
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)


def guarded(app: typer.Typer, args: Sequence[str] | None = None, name: str | None = None) -> int:
    """Run a command line and return its exit status.

    A `CausalCXRError` becomes one line on standard error, without a traceback. So do faults of the
    machine: a full disk, a read-only folder, too many open files, no memory left. Any other
    exception is a bug and keeps its traceback.

    Args:
        app: The commands.
        args: The arguments; by default those of the process.
        name: The program's name in help and messages.

    Returns:
        0 on success, 2 for an error of the user, 130 when interrupted, or the verb's own status.

    Example:
        >>> app = typer.Typer()
        >>> @app.command()
        ... def hello() -> None:
        ...     print("hello")
        >>> guarded(app, [])
        hello
        0
    """
    with visible_streams():
        return _run(app, args, name)


def _run(app: typer.Typer, args: Sequence[str] | None, name: str | None) -> int:
    try:
        # Not standalone: errors come here instead of ending the process.
        words = None if args is None else list(args)
        status = typer.main.get_command(app)(words, prog_name=name, standalone_mode=False)
    except CausalCXRError as error:
        return _print_error(str(error))
    except (typer.Abort, KeyboardInterrupt):
        # The status that shells give a command ended by Ctrl-C: 128 + SIGINT.
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        # Python flushes at exit: without this it would fail on the closed pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, OSError, RuntimeError) as error:
        message = _fault_of_the_machine(error)
        if not message:
            raise
        return _print_error(message)
    except Exception as error:
        # Errors of the parser: an unknown command or option. Typer does not export their class,
        # so they are recognised by their method.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        hint = f"; see '{context.command_path} --help'" if context else ""
        message = error.format_message().strip()
        if "\n" in message or not message:  # a command without arguments shows its help
            print(message)
            return 2
        return _print_error(message.rstrip(".") + hint)
    return status if isinstance(status, int) else 0


def _fault_of_the_machine(error: BaseException) -> str:
    """Return the message for a fault of disk or memory, empty for any other error."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno, "")
        return f"{place}{error.strerror}{hint}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return (
            "not enough memory; use fewer records (--limit), smaller images or batches, or fewer "
            "workers"
        )
    return ""


def _print_error(text: str) -> int:
    print("error:", visible(" ".join(text.split())), file=sys.stderr)
    return 2
