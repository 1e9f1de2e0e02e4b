"""Running a command line: one line for an error, and the status that scripts rely on."""

import sys
from collections.abc import Sequence

import typer

from causalcxr.errors import CausalCXRError

__all__ = ["guarded"]


def guarded(app: typer.Typer, args: Sequence[str] | None = None, name: str | None = None) -> int:
    """Run a command line and return its exit status.

    An error of ours becomes one line on standard error, without a traceback. Anything else that
    is raised is a bug of ours and keeps its traceback.

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
    try:
        typer.main.get_command(app)(None if args is None else list(args), prog_name=name)
    except CausalCXRError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0
