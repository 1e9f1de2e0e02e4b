r"""Text for a terminal: cells and file names cannot move the cursor or reorder the line.

An escape sequence in a cell could clear the screen, hide a line or change the title of a window,
and a bidirectional control character could show a text in another order. Both are
escaped instead, as `\x1b` and `\u202e`.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = ["VisibleStream", "visible", "visible_streams"]

# Control characters but tab and newline, bidirectional controls, line separators, half characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# The sequences of our own tables and progress bars: colours, and redrawing their lines.
_OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\r")


def visible(text: str) -> str:
    r"""Return a text in which characters that control a terminal are escaped.

    Example:
        >>> print(visible("a\x1b[2Jb\u202e\nc"))
        a\x1b[2Jb\u202e
        c
    """
    return _HIDDEN.sub(lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class VisibleStream:
    """A text stream that escapes the characters that control a terminal.

    On a terminal, the sequences for colours, tables and progress bars pass; if the output is
    redirected, none does.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; returns its length, as streams do."""
        if _HIDDEN.search(text):
            self._stream.write(self._passed(text) if self.isatty() else visible(text))
        else:
            self._stream.write(text)
        return len(text)

    def _passed(self, text: str) -> str:
        """Return a text with only our own sequences left in it."""
        foreign = map(visible, _OURS.split(text))
        ours = [*_OURS.findall(text), ""]
        return "".join(part + sequence for part, sequence in zip(foreign, ours, strict=True))

    def writelines(self, lines: Any) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def visible_streams() -> Iterator[None]:
    """Let everything that is printed in the block be written by `VisibleStream`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(VisibleStream, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
