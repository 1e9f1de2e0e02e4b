"""Running a command line: one line for an error, and the status that scripts rely on."""

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
# torch has no error of its own for a processor without memory left.
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)


def guarded(app: typer.Typer, args: Sequence[str] | None = None, name: str | None = None) -> int:
    """Run a command line and return its exit status.

    An error of ours becomes one line on standard error, without a traceback, and so do the faults
    of a machine: a full disk, a folder that is read-only, too many open files, no memory left.
    Anything else that is raised is a bug of ours and keeps its traceback.

    Args:
        app: The commands.
        args: The words after the program's name; those of the process where left out.
        name: The program's name in help and messages.

    Returns:
        0 when all went well, 2 for what the user can put right, 130 when interrupted.

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
        words = None if args is None else list(args)
        done = typer.main.get_command(app)(words, prog_name=name, standalone_mode=False)
    except CausalCXRError as error:
        return _refused(str(error))
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, OSError, RuntimeError) as error:
        told = _fault_of_the_machine(error)
        if not told:
            raise
        return _refused(told)
    except Exception as error:
        # The parser's own errors, of words that are no command or option. Typer does not export
        # their class; they are known by what they offer.
        if not hasattr(error, "format_message"):
            raise
        asked = getattr(error, "ctx", None)
        hint = f"; see '{asked.command_path} --help'" if asked else ""
        told = error.format_message().strip()
        if "\n" in told or not told:  # a command without words shows its help
            print(told)
            return 2
        return _refused(told.rstrip(".") + hint)
    return done if isinstance(done, int) else 0


def _fault_of_the_machine(error: BaseException) -> str:
    """Return what to tell of a fault of disk or memory, nothing where it is another error."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno, "")
        return f"{place}{error.strerror}{hint}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return (
            "not enough memory; ask for fewer records (--limit), smaller images or batches, or "
            "fewer workers"
        )
    return ""


def _refused(text: str) -> int:
    print("error:", visible(" ".join(text.split())), file=sys.stderr)
    return 2
