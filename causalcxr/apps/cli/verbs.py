"""From an options object to a command: each verb is a function of one frozen dataclass."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

__all__ = ["verb"]

Verb = Callable[[Any], int | None]


def verb(app: typer.Typer, name: str | None = None) -> Callable[[Verb], Verb]:
    """Add a function of an options object to a command line, under its own name.

    Every field of the dataclass is one argument or option of the command: its annotation holds
    the help text. The class's own fields come before those of its bases. A `Sequence` is an
    option that may be repeated; the function gets a tuple.

    Args:
        app: The command line.
        name: The verb; by default the name of the function.

    Returns:
        A decorator. It returns the function unchanged, so Python code calls it with the options.

    Example:
        >>> from dataclasses import dataclass
        >>> app = typer.Typer()
        >>> @dataclass(frozen=True, kw_only=True)
        ... class GreetOptions:
        ...     name: Annotated[str, typer.Argument(help="Who is greeted.")]
        ...     times: Annotated[int, typer.Option(help="How often.")] = 1
        >>> @verb(app)
        ... def greet(options: GreetOptions) -> None:
        ...     print(" ".join([f"hello {options.name}"] * options.times))
        >>> typer.main.get_command(app)(["you", "--times", "2"], standalone_mode=False)
        hello you hello you
        >>> greet(GreetOptions(name="me"))
        hello me
    """

    def add(function: Verb) -> Verb:
        options = inspect.get_annotations(function)["options"]

        def command(**words: Any) -> int | None:
            return function(options(**{k: _frozen(value) for k, value in words.items()}))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature(_parameters(options))
        app.command(name)(command)
        return function

    return add


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parameters(options: type) -> list[inspect.Parameter]:
    """Return the fields as typer reads parameters: arguments, required options, other options."""
    hints = get_type_hints(options, include_extras=True)
    defaults = {field.name: field.default for field in fields(options)}
    # The verb's own fields first, then those of the classes it inherits from.
    declared = [name for base in options.__mro__ for name in inspect.get_annotations(base)]
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if defaults[name] is MISSING else defaults[name],
            annotation=_list_of_words(hints[name]),
        )
        for name in dict.fromkeys(declared)
        if name in defaults  # not a class variable
    ]
    return sorted(parameters, key=_rank)


def _rank(parameter: inspect.Parameter) -> tuple[bool, bool]:
    info = parameter.annotation.__metadata__[0]
    return not isinstance(info, ArgumentInfo), parameter.default is not inspect.Parameter.empty


def _list_of_words(hint: Any) -> Any:
    """Return the annotation with a list for a sequence, which typer does not know."""
    kind, *metadata = get_args(hint)
    if get_origin(kind) is not Sequence:
        return hint
    return Annotated[(list[get_args(kind)[0]], *metadata)]
