"""Columns of a published .csv table, as categoricals: distinct texts, and a code for each row.

Published tables are read strictly: a row with a cell too many or too few is an error with its
line, never a shifted or shortened record. Categoricals let every decision about a value be made
once, for all rows that hold it.
"""

import contextlib
import csv
import gc
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from causalcxr.common.csv_checks import check_header, ragged_row, strict_reader
from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.progress import progress
from causalcxr.common.text_file import open_lines

__all__ = ["line_of", "read_columns", "read_header", "without_garbage_collection"]

_BLOCK = 100_000  # rows parsed at a time: memory holds the columns that are kept, not the file


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    r"""Return some columns of a .csv or .csv.gz file, every cell a text.

    Args:
        path: The file: UTF-8 with or without a byte order mark; compressed if it is named .gz.
        columns: The required columns.
        optional: Columns that are read if the file has them.

    Returns:
        One categorical column for each name, one row for each record.

    Raises:
        CohortError: If the file is missing, empty, not what its name says, not UTF-8, ragged or
            cut short, or a column is missing; with the line where it is known.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("id,sex,note\n7,F,x\n8,O,y\n")
        >>> read_columns(file, ["sex", "id"])["sex"].tolist()
        ['F', 'O']
    """
    with (
        open_lines(path) as lines,
        strict_reader(lines, path) as reader,
        without_garbage_collection(),
    ):
        return _columns(reader, path, columns, optional)


def read_header(path: Path) -> list[str]:
    """Return the names of a file's columns, or an empty list if the header is unreadable."""
    try:
        with open_lines(path) as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except (CohortError, csv.Error):
        return []


def line_of(path: Path, row: int) -> int:
    """Return the line, from 1, on which a record of a .csv file ends; for error messages."""
    with open_lines(path) as lines:
        reader = csv.reader(lines)
        filled = (reader.line_num for cells in reader if cells)
        return next(islice(filled, row + 1, None), 0)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause Python's garbage collector, which takes a fifth of the time on a large table."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _columns(
    reader: Any, path: Path, columns: Sequence[str], optional: Sequence[str]
) -> pd.DataFrame:
    header = [name.strip() for name in next((row for row in reader if row), [])]
    if not header:
        raise CohortError(f"{path}: the file is empty")
    places = _places(header, path, columns, optional)
    # Categories, block by block: each distinct text is kept once a block.
    parts: dict[str, list[pd.Categorical]] = {name: [] for name in places}
    blocks = iter(lambda: list(islice(reader, _BLOCK)), [])
    for block in progress(blocks, f"Reading {path.name}"):
        rows = [row for row in block if row]  # blank lines are skipped
        if set(map(len, rows)) - {len(header)}:
            raise _ragged(path, header)
        for name, place in places.items():
            cells = np.array(list(map(itemgetter(place), rows)), dtype=object)
            codes, texts = pd.factorize(cells)
            parts[name].append(pd.Categorical.from_codes(codes, pd.Index(texts, dtype=object)))
    if not any(len(part) for part in next(iter(parts.values()))):
        raise CohortError(f"{path}: the file has a header but no records")
    return pd.DataFrame({name: union_categoricals(blocks) for name, blocks in parts.items()})


def _places(
    header: list[str], path: Path, columns: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    """Return the position of each column to read."""
    check_header(path, header)
    for name in columns:
        if name not in header:
            hint = nearest(name, header) or f"; it has {', '.join(header)[:200]}"
            raise CohortError(f"{path}: no column {name!r}{hint}")
    return {name: header.index(name) for name in (*columns, *optional) if name in header}


def _ragged(path: Path, header: list[str]) -> CohortError:
    """Return the error for the first row that has more or fewer cells than the header."""
    with open_lines(path) as lines:
        reader = csv.reader(lines, strict=True)
        rows = ((reader.line_num, len(row)) for row in reader if row)
        line, n_cells = next(row for row in rows if row[1] != len(header))
        is_last = next(reader, None) is None
        is_cut = is_last and n_cells < len(header) and not lines.ends_with_newline
    return ragged_row(path, line, n_cells, len(header), is_cut=is_cut)
