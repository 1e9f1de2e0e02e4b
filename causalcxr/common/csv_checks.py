"""Checks of .csv files that are read strictly, with the line and the remedy in every error."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from causalcxr.common.errors import CohortError

__all__ = ["check_header", "ragged_row", "strict_reader"]

_SEPARATORS = {"semicolons": ";", "tabs": "\t", "vertical bars": "|"}


@contextmanager
def strict_reader(lines: Any, path: Path) -> Iterator[Any]:
    """Give a strict `csv.reader`; what it refuses becomes an error with the file and the line.

    Args:
        lines: An iterable of lines.
        path: The file, for messages.

    Raises:
        CohortError: If a quote is not closed, or the text is not valid CSV.
    """
    reader = csv.reader(lines, strict=True)
    try:
        yield reader
    except csv.Error as error:
        is_cut = "unexpected end" in str(error)
        reason = "a quote is not closed; the file may be cut short" if is_cut else error
        raise CohortError(f"{path}:{reader.line_num}: {reason}") from None


def check_header(path: Path, header: Sequence[str]) -> None:
    """Refuse a column that occurs twice, and a file whose separator is not the comma.

    Raises:
        CohortError: With the column or the separator, and how to write the file anew.
    """
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise CohortError(f"{path}:1: column {twice[0]!r} occurs twice; rename one")
    # With another separator the header is one name that contains it.
    separators = [
        word for word, sign in _SEPARATORS.items() if len(header) == 1 and sign in header[0]
    ]
    if separators:
        sign = _SEPARATORS[separators[0]]
        raise CohortError(
            f"{path}:1: cells are separated by {separators[0]}; save it with commas and 1.5, not "
            f"1,5, or: pandas.read_csv(path, sep={sign!r}, decimal=',').to_csv(new, index=False)"
        )


def ragged_row(
    path: Path, line: int, n_cells: int, n_columns: int, *, is_cut: bool
) -> CohortError:
    """Return the error for a row that has more or fewer cells than the header.

    Args:
        path: The file.
        line: The line on which the row ends.
        n_cells: The cells of the row.
        n_columns: The cells of the header.
        is_cut: Whether the row is the last, short, and without the end of a line.
    """
    remedy = "the file may be cut short" if is_cut else "quote cells that hold a comma"
    return CohortError(f"{path}:{line}: {n_cells} cells, the header has {n_columns}; {remedy}")
