"""Markdown prose: wrapped at 99 columns, and without the words that the style guide refuses."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDTH = 99
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "CHANGELOG.md", "docs/**/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
REFUSED = re.compile(
    r"\b(film(s|ed|ing)?|nought|whoever|the\s+very\s+(bits?|images?|facts?|values?)|to\s+be\s+had"
    r"|(comes?|came) to grief|believed pairs?|pairs? (is|are) believed|gates|the other world"
    r"|goes on where it stopped)\b",
    re.IGNORECASE,
)
FENCE = re.compile(r" {0,3}(```|~~~)")
MARKER = re.compile(r"\s*([-*+>]|\d+\.)\s+")
CODE = re.compile(r"`[^`]*`")
LINK = re.compile(r"!?\[[^\]]*\]\([^)\s]*\)[.,;:]?")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not code, a table, a heading or an image."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line) is not None
        fenced ^= fence
        if not (fence or fenced or line.startswith(("    ", "|", "#", "![", "<", ":::"))):
            yield number, line


def unbreakable(line: str) -> bool:
    """Return whether a line is one link, code span or word (a URL, say), after a list marker."""
    words = CODE.sub("code", MARKER.sub("", line, count=1).strip())
    return LINK.fullmatch(words) is not None or " " not in words


def too_long(text: str) -> list[int]:
    return [n for n, line in prose(text) if len(line) > WIDTH and not unbreakable(line)]


def refused(text: str) -> list[str]:
    without_code = CODE.sub("", "\n".join(line for _, line in prose(text)))
    return [match[0] for match in REFUSED.finditer(without_code)]


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_wrapped(page):
    assert too_long((ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize("page", PAGES)
def test_prose_has_no_refused_words(page):
    assert refused((ROOT / page).read_text("utf-8")) == []


def test_long_lines_are_found_outside_code_and_tables():
    line = "word " * 30
    assert too_long(line) == [1]
    assert too_long(f"```\n{line}\n```\n    {line}\n| {line} |\n# {line}") == []
    assert too_long(f"- [page](https://example.org/{'a' * 99})\nhttps://{'a' * 99}") == []


def test_refused_words_are_found_outside_code():
    assert refused("The films are\nthe very\nbits, `film`.") == ["films", "the very\nbits"]
