"""Damage for fuzz tests: valid files, and a few edits that hypothesis chooses and shrinks.

CAUSALCXR_FUZZ is the number of examples a test tries: few by default, many in `make fuzz`.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from causalcxr.common.errors import CausalCXRError

__all__ = ["EXAMPLES", "damaged", "edits", "few", "survives"]

EXAMPLES = int(os.environ.get("CAUSALCXR_FUZZ", "40"))
# What breaks parsers: ends of ranges, lengths of all sizes, quotes, separators, no Unicode.
_NASTY = [
    b"", b"\0", b"\xff", b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"-1", b"NaN", b"inf",
    b"1e999", b'"', b"'", b",", b"\n", b"\r", b"\t", b"|", b"[", b"{", b"]" * 50, b"[" * 500, b":",
    b"&a", b"*a", b"<<: *a", b"!!python/object:os.system", b"- ", b"null", b"true",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"9" * 400, b"../" * 5, b"\x1b[31m", b"=1+1", b"<script>", b"SQ\0\0",
]  # fmt: skip
_PIECES = st.one_of(st.sampled_from(_NASTY), st.binary(max_size=6))
_EDIT = st.tuples(
    st.sampled_from(["put", "insert", "cut", "repeat", "end"]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 64),
    _PIECES,
)
edits = st.lists(_EDIT, min_size=1, max_size=5)


def few(examples: int | None = None) -> settings:
    """Return the settings of a fuzz test."""
    return settings(
        max_examples=EXAMPLES if examples is None else examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def damaged(content: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    """Return a file's bytes after some edits; most hit its first kilobyte, where headers are."""
    for what, where, length, piece in changes:
        span = len(content) + 1 if where % 4 == 0 else min(len(content) + 1, 1024)
        place = (where // 4) % span
        if what == "put":
            content = content[:place] + piece + content[place + len(piece) :]
        elif what == "insert":
            content = content[:place] + piece + content[place:]
        elif what == "cut":
            content = content[:place] + content[place + length :]
        elif what == "repeat":
            content = content[:place] + content[place : place + length] * 3 + content[place:]
        else:
            content = content[:place]
    return content


def survives(read: Callable[[], Any]) -> str:
    """Run a reader: it may return anything, or raise one of our errors in one line.

    Returns:
        The error's text, or nothing.
    """
    told = ""
    try:
        read()
    except CausalCXRError as error:
        told = str(error)
    assert "\n" not in told
    return told
