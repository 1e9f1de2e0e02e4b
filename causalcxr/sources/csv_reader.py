"""Reading: the columns of a published table, as its few distinct texts and where each stands.

Published tables are read strictly: a row with a cell too many or too few is an error with its
line, never a shifted or a silently shortened record. Columns come as pandas categoricals, so that
whatever is decided about a value is decided once for all rows that hold it.
"""

import contextlib
import csv
import gc
import json
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
from causalcxr.common.text_file import TextLines, open_lines, read_whole

__all__ = ["as_texts", "header_of", "line_of", "read_columns", "read_json", "read_json_lines"]

_BLOCK = 100_000  # rows parsed at a time: memory holds the columns that are kept, not the file


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    r"""Return some columns of a .csv or .csv.gz file, every cell a text.

    Args:
        path: The file: UTF-8 with or without a byte order mark; compressed if it is named .gz.
        columns: The columns that must be there.
        optional: Columns that are read where they are there.

    Returns:
        One categorical column a name, one row a record.

    Raises:
        CohortError: If the file is missing, empty, not what its name says, not UTF-8, ragged or
            cut short, or a column is not there; with the line where one is known.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("id,sex,note\n7,F,x\n8,O,y\n")
        >>> read_columns(file, ["sex", "id"])["sex"].tolist()
        ['F', 'O']
    """
    with open_lines(path) as lines, strict_reader(lines, path) as reader, _uncollected():
        return _columns(reader, path, columns, optional)


def header_of(path: Path) -> list[str]:
    """Return the names of a file's columns, or an empty list where it has none to be read."""
    try:
        with open_lines(path) as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except (CohortError, csv.Error):
        return []


def line_of(path: Path, row: int) -> int:
    """Return the line, from 1, on which a record of a .csv file ends; for messages alone."""
    with open_lines(path) as lines:
        reader = csv.reader(lines)
        filled = (reader.line_num for cells in reader if cells)
        return next(islice(filled, row + 1, None), 0)


def read_json(path: Path) -> Any:
    """Return what a .json file holds.

    Raises:
        CohortError: If it is missing, not JSON, or nested beyond reason.
    """
    try:
        with _uncollected():
            return json.loads(read_whole(path))
    except json.JSONDecodeError as error:
        raise CohortError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); download it again"
        ) from None
    except RecursionError:
        raise CohortError(f"{path}: nested too deeply to be data") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    r"""Return the objects of a file that holds one JSON object a line.

    Raises:
        CohortError: With the line, if one is no object.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = file.write_text('{"Edema": 1.0}\n\n{"Edema": null}\n')
        >>> read_json_lines(file)
        [{'Edema': 1.0}, {'Edema': None}]
    """
    lines = read_whole(path).split("\n")
    filled = [line for line in lines if line.strip()]
    try:
        # One call for the whole file; a line at a time only to find the one that is wrong.
        with _uncollected():
            found = json.loads(f"[{','.join(filled)}]")
    except (json.JSONDecodeError, RecursionError):
        found = []
    if len(found) != len(filled) or set(map(type, found)) - {dict}:
        raise CohortError(f"{path}:{_first_bad(lines)}: not a JSON object; download it again")
    if not found:
        raise CohortError(f"{path}: the file is empty")
    return found


def as_texts(values: pd.Series | Sequence[Any]) -> pd.Categorical:
    """Return values of any kind as texts, the missing ones empty; distinct ones are worded once.

    Example:
        >>> as_texts(["M", None, 61, 61.0]).tolist()
        ['M', '', '61', '61']
    """
    array = pd.Series(values, dtype=object).to_numpy()
    try:
        codes, distinct = pd.factorize(array, use_na_sentinel=False)
    except TypeError:  # lists and objects where a text should be
        told = [f"{type(v).__name__} {v}" if isinstance(v, list | dict) else v for v in array]
        array = pd.Series(told, dtype=object).to_numpy()
        codes, distinct = pd.factorize(array, use_na_sentinel=False)
    worded = ["" if pd.isna(value) else _worded(value) for value in distinct]
    again, texts = pd.factorize(np.array(worded, dtype=object))
    return pd.Categorical.from_codes(again[codes], pd.Index(texts, dtype=object))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Leave the collector of garbage out, which looks at millions of texts for nothing.

    It takes a fifth of the time to read a large table.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _worded(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def _first_bad(lines: list[str]) -> int:
    for number, line in enumerate(lines, 1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return number
        except (json.JSONDecodeError, RecursionError):
            return number
    return len(lines)


def _columns(
    reader: Any, path: Path, columns: Sequence[str], optional: Sequence[str]
) -> pd.DataFrame:
    header = [name.strip() for name in next((row for row in reader if row), [])]
    if not header:
        raise CohortError(f"{path}: the file is empty")
    places = _places(header, path, columns, optional)
    parts: dict[str, list[pd.Categorical]] = {name: [] for name in places}
    blocks = iter(lambda: list(islice(reader, _BLOCK)), [])
    for block in progress(blocks, f"Reading {path.name}"):
        rows = [row for row in block if row]  # blank lines
        if set(map(len, rows)) - {len(header)}:
            raise _ragged(path, header)
        for name, place in places.items():
            cells = np.array(list(map(itemgetter(place), rows)), dtype=object)
            codes, texts = pd.factorize(cells)
            parts[name].append(pd.Categorical.from_codes(codes, pd.Index(texts, dtype=object)))
    if not any(len(part) for part in next(iter(parts.values()))):
        raise CohortError(f"{path}: the file has a header but no records")
    return pd.DataFrame({name: union_categoricals(found) for name, found in parts.items()})


def _places(
    header: list[str], path: Path, columns: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
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
        is_cut = _is_cut(reader, lines, short=n_cells < len(header))
    return ragged_row(path, line, n_cells, len(header), is_cut=is_cut)


def _is_cut(reader: Any, lines: TextLines, *, short: bool) -> bool:
    """Return whether the row just read is short, the last, and without the end of a line."""
    return next(reader, None) is None and short and not lines.ends_with_newline
