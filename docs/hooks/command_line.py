"""The reference of the command line, generated from its commands."""

from collections.abc import Iterable
from html import escape
from typing import Any

import typer

MARK = "<!-- verbs -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker of the page by the reference."""
    return markdown.replace(MARK, "\n".join(_reference())) if MARK in markdown else markdown


def verbs(group: Any, words: str = "causalcxr") -> Iterable[tuple[str, Any]]:
    """Yield every verb, such as "causalcxr graph check", with its command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def command_line() -> Any:
    """Return the command line as one tree of commands."""
    from causalcxr.apps.cli.main import app

    return typer.main.get_command(app)


def _reference() -> Iterable[str]:
    for words, command in verbs(command_line()):
        visible = [each for each in command.params if not each.hidden and each.name != "help"]
        yield f"## {words.removeprefix('causalcxr ')} {{ data-toc-label='{words[10:]}' }}\n"
        yield f"```text\n{_usage(words, visible)}\n```\n"
        yield f"{_text(command.help)}\n"
        yield "| | | |\n| --- | --- | --- |"
        yield from (
            f"| {_name(each)} | {_text(each.help)} | {_default(each)} |" for each in visible
        )
        yield ""


def _usage(words: str, visible: list[Any]) -> str:
    places = [_metavar(each) for each in visible if each.param_type_name == "argument"]
    needed = [
        f"{each.opts[0]} {_metavar(each)}"
        for each in visible
        if each.param_type_name == "option" and each.required
    ]
    free = any(each.param_type_name == "option" and not each.required for each in visible)
    return " ".join([words, *places, *needed, *(["[OPTIONS]"] if free else [])])


def _metavar(param: Any) -> str:
    name = param.metavar or param.name.upper()
    optional = param.param_type_name == "argument" and not param.required
    return f"[{name}]" if optional and not name.startswith("[") else name


def _name(param: Any) -> str:
    if param.param_type_name == "argument":
        words = _metavar(param)
    else:
        words = param.opts[0] + ("" if param.is_flag else f" {_metavar(param)}")
    return f"<code>{escape(words).replace('|', '&#124;')}</code>"


def _text(words: str | None) -> str:
    return escape(" ".join((words or "").split()), quote=False).replace("|", "&#124;")


def _default(param: Any) -> str:
    if param.required:
        return "needed"
    if param.default in (None, "", False, ()) or param.multiple or callable(param.default):
        return ""
    return f"`{param.default}`"
