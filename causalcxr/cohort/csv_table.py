"""A cohort in a .csv file; damaged files give one clear error."""

import io
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.columns import MISSING_WORDS
from causalcxr.common.csv_checks import check_header, ragged_row, strict_reader
from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.listing import names_within
from causalcxr.common.spreadsheet import unmarked
from causalcxr.common.text_file import read_whole
from causalcxr.images.file_images import FileImages

__all__ = ["load", "missing_words", "read_cells", "recognises"]

# A number as programs write it. A whole number with an exponent (12E5) is an identifier.
_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"-?(?=\.?\d)(?:0|[1-9]\d*)?(?:\.\d*(?:[eE][+-]?\d+)?|[eE][+-]\d+)", re.ASCII)
_SAFE_DIGITS = 15  # significant digits that a double always keeps


def recognises(path: Path) -> bool:
    """Return whether a path is a file named .csv."""
    return path.is_file() and path.suffix.lower() == ".csv"


def load(
    path: str | Path,
    *,
    images: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
) -> Cohort:
    """Read a cohort from a .csv file.

    The optional columns `record`, `draw`, `patient` and `split`, whatever the case, have the ids
    and splits. A column is read as numbers if every cell can be written back as the same text;
    `007`, `12E5` and identifiers with more digits than a float stay text. Empty cells, `NA`, `NaN`
    and `nan` are missing, unless a graph declares the word as a level of the variable.

    Args:
        path: The file, UTF-8.
        images: A folder with `<record>` or `<record>.png` for some of the records; links that
            lead out of it are not followed.
        size: The side, or height and width, to which images are resized.

    Raises:
        CohortError: If the file is damaged, with the line if known.
    """
    path = Path(path)
    cells = read_cells(path)
    ids = {}
    # Columns of ids, in upper or lower case, are no variables.
    for column in list(cells):
        if column.lower() in ("record", "draw", "patient", "split") and column.lower() not in ids:
            ids[column.lower()] = cells.pop(column).to_numpy()
    columns = dict(zip(cells, cells.to_numpy(dtype=object).T, strict=True))
    # A word for missing values, such as NA, may be a level of the graph.
    words = {name: missing_words(column) for name, column in columns.items()}
    table = pd.DataFrame({name: _typed(column) for name, column in columns.items()})
    table.index = cells.index
    if "record" in ids:
        _check_filled(ids["record"], path)
        table.index = _index(ids, path)
    cohort = Cohort(
        table,
        None if images is None else _images(Path(images), table.index, size),
        patients=ids.get("patient"),
        splits=ids.get("split"),
        source="table",
        origin=path,
    )
    return cohort.remembering(words)


def missing_words(cells: np.ndarray) -> np.ndarray:
    """Return the word for a missing value in each cell of text, or "".

    Example:
        >>> missing_words(np.array(["F", "NA", ""], dtype=object)).tolist()
        ['', 'NA', '']
    """
    words = np.full(len(cells), "", dtype=object)
    if not set(MISSING_WORDS).isdisjoint(cells):
        words[:] = [cell if cell in MISSING_WORDS else "" for cell in cells]
    return words


def read_cells(path: Path, *, exact: bool = False) -> pd.DataFrame:
    """Return the cells of a .csv file as text, one row for each record.

    The apostrophe that protects a text from being a formula in a spreadsheet is removed.

    Args:
        path: The file.
        exact: Whether spaces around the headings are kept.

    Raises:
        CohortError: If the file is missing, empty, compressed, not UTF-8, ragged or cut short.
    """
    text = read_whole(path, compressed=False)
    with strict_reader(io.StringIO(text, newline=""), path) as reader:
        pairs = [(row, reader.line_num) for row in reader if row]
    rows, lines = [row for row, _ in pairs], [line for _, line in pairs]
    if not rows:
        raise CohortError(f"{path}: the file is empty")
    # Texts that look like formulas are saved with an apostrophe before them.
    if "'" in text:
        rows = [[unmarked(cell) for cell in row] for row in rows]
    header = rows[0] if exact else [name.strip() for name in rows[0]]
    check_header(path, header)
    _check_rows(path, header, rows, lines, ends=text.endswith(("\n", "\r")))
    if len(rows) == 1:
        raise CohortError(f"{path}: the file has a header but no records")
    cells = pd.DataFrame(rows[1:], columns=header, dtype=object)
    # A comma at the end of every line, as in some releases, makes a column without a name.
    unnamed = [name for name in cells if not name and (cells[name] == "").all()]
    return cells.drop(columns=unnamed)


def _check_rows(path: Path, header: list, rows: list, lines: list, *, ends: bool) -> None:
    """Refuse columns without a name, and rows that have more or fewer cells than the header."""
    if "" in header[:-1]:
        raise CohortError(f"{path}:1: column {header.index('') + 1} has no name; give it one")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            is_cut = row is rows[-1] and len(row) < len(header) and not ends
            raise ragged_row(path, line, len(row), len(header), is_cut=is_cut)


def _typed(cells: np.ndarray) -> np.ndarray:
    """Return a column of text as numbers if every filled cell is one, else as text."""
    empty = {"", *MISSING_WORDS}
    texts = {text: text.strip() for text in set(cells) - empty}
    distinct = set(texts.values())
    one_each = all(map(_is_lossless, distinct)) and len(set(map(float, distinct))) == len(distinct)
    if not one_each:
        return np.array([np.nan if cell in empty else cell for cell in cells], dtype=object)
    are_whole = empty.isdisjoint(cells) and all(map(_WHOLE.fullmatch, distinct))
    # Python's conversion is exact; that of pandas may differ in the last bit.
    numbers = {text: int(text) if are_whole else float(text) for text in texts}
    dtype = np.int64 if are_whole else np.float64
    return np.array([numbers.get(cell, np.nan) for cell in cells], dtype=dtype)


def _is_lossless(text: str) -> bool:
    """Return whether a text is a number that a float represents without losing a digit."""
    match = _WHOLE.fullmatch(text)
    if match and len(text) <= _SAFE_DIGITS:
        return True
    if match:
        return abs(float(text)) < 2**53
    if not _NUMBER.fullmatch(text):
        return False
    number = float(text)
    return repr(number) == text or Decimal(repr(number)) == Decimal(text)


def _check_filled(records: np.ndarray, path: Path) -> None:
    if (empty := records == "").any():
        raise CohortError(f"{path}: row {int(empty.argmax()) + 1} has no record id; give it one")


def _index(ids: dict[str, np.ndarray], path: Path) -> pd.Index:
    if "draw" not in ids:
        return pd.Index(ids["record"], name="record")
    try:
        draws = ids["draw"].astype(np.int64)
    except ValueError as error:
        raise CohortError(f"{path}: column 'draw' holds whole numbers: {error}") from None
    return pd.MultiIndex.from_arrays([ids["record"], draws], names=["record", "draw"])


def _images(folder: Path, index: pd.Index, size: int | tuple[int, int] | None) -> FileImages:
    """Return the records' images; only files inside the folder are opened."""
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder of images")
    names = names_within(folder, folder)
    records = [str(record) for record in index.get_level_values(0)]
    files = [next((n for n in (r, f"{r}.png") if n in names), None) for r in records]
    if not any(files):
        hint = nearest(f"{records[0]}.png", sorted(names)[:10_000])
        raise CohortError(f"{folder}: no image is named after a record, {records[0]}.png{hint}")
    paths = [None if name is None else folder / name for name in files]
    return FileImages(paths, (size, size) if isinstance(size, int) else size)
