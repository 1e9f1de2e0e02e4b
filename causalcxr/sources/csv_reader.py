"""Reading: the columns of a published table, as its few distinct texts and where each stands.

Published tables are read strictly: a row with a cell too many or too few is an error with its
line, never a shifted or a silently shortened record. Columns come as pandas categoricals, so that
whatever is decided about a value is decided once for all rows that hold it.
"""

import codecs
import contextlib
import csv
import gc
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from causalcxr.cohort.csv_table import check_separator
from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.progress import progress

__all__ = ["as_texts", "header_of", "line_of", "read_columns", "read_json", "read_json_lines"]

_BLOCK = 100_000  # rows parsed at a time: memory holds the columns that are kept, not the file
_MOST_BYTES = 8 * 2**30  # of text; a compressed file may not claim more either
_MOST_LINE = 2**30
_CHUNK = 2**20
_GZIP = b"\x1f\x8b"


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
    with _opened(path) as lines, _uncollected():
        reader = csv.reader(lines, strict=True)
        try:
            return _columns(reader, path, columns, optional, lines)
        except csv.Error as error:
            cut = "unexpected end" in str(error)
            remedy = "a quote is not closed; the file may be cut short" if cut else error
            raise CohortError(f"{path}:{reader.line_num}: {remedy}") from None


def header_of(path: Path) -> list[str]:
    """Return the names of a file's columns, or an empty list where it has none to be read."""
    try:
        with _opened(path) as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except (CohortError, csv.Error):
        return []


def line_of(path: Path, row: int) -> int:
    """Return the line, from 1, on which a record of a .csv file ends; for messages alone."""
    with _opened(path) as lines:
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
            return json.loads(_text(path))
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
    lines = _text(path).split("\n")
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
    reader: Any, path: Path, columns: Sequence[str], optional: Sequence[str], lines: "_Lines"
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
            raise _ragged(path, header, lines)
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
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise CohortError(f"{path}:1: column {twice[0]!r} occurs twice; rename one")
    check_separator(path, header)
    for name in columns:
        if name not in header:
            hint = nearest(name, header) or f"; it has {', '.join(header)[:200]}"
            raise CohortError(f"{path}: no column {name!r}{hint}")
    return {name: header.index(name) for name in (*columns, *optional) if name in header}


def _ragged(path: Path, header: list[str], lines: "_Lines") -> CohortError:
    """Return the error for the first row that has not as many cells as the header."""
    with _opened(path) as again:
        reader, wrong = csv.reader(again, strict=True), (0, 0)
        for row in reader:
            if row and len(row) != len(header):
                wrong = (reader.line_num, len(row))
                break
        last = next(reader, None) is None
        cut = last and wrong[1] < len(header) and not again.ended
    remedy = "the file may be cut short" if cut else "quote cells that hold a comma"
    return CohortError(
        f"{path}:{wrong[0]}: {wrong[1]} cells, the header has {len(header)}; {remedy}"
    )


class _Bytes(io.RawIOBase):
    """The bytes of a file, refused at the first that no text file holds."""

    def __init__(self, file: Any) -> None:
        self._file, self._read, self._line = file, 0, 0
        self.ended = True

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and look at what is in it."""
        count = self._file.readinto(buffer)
        seen = bytes(buffer[:count])
        self._read += count
        newline = seen.rfind(b"\n")
        self._line = count - newline - 1 if newline >= 0 else self._line + count
        if b"\0" in seen:
            raise _Unreadable("a null byte; this is not a text file")
        if self._read > _MOST_BYTES or self._line > _MOST_LINE:
            raise _Unreadable("larger than any published table")
        if count:
            self.ended = seen.endswith((b"\n", b"\r"))
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Unreadable(Exception):
    """What is wrong with the bytes of a file; its place is looked for afterwards."""


class _Lines:
    """The decoded lines of a file."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._bytes = path, _Bytes(file)
        buffered = io.BufferedReader(self._bytes, _CHUNK)
        self._lines = io.TextIOWrapper(buffered, encoding="utf-8-sig", newline="")
        self._lines._CHUNK_SIZE = _CHUNK  # 8 KiB by default, which is slow

    @property
    def ended(self) -> bool:
        """Whether what was read so far ends with the end of a line."""
        return self._bytes.ended

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._lines
        except (UnicodeDecodeError, _Unreadable) as error:
            raise _placed(self._path, error) from None
        except (EOFError, OSError, zlib.error) as error:
            told = getattr(error, "strerror", None) or error
            raise CohortError(f"{self._path}: cannot be read: {told}") from None


def _placed(path: Path, error: Exception) -> CohortError:
    """Return an error of the bytes with the first line that is wrong."""
    place, told = str(path), str(error)
    if isinstance(error, UnicodeDecodeError):
        told = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save as UTF-8"
    opened = gzip.open if path.suffix.lower() == ".gz" else Path.open
    with opened(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_CHUNK), b""), 1):
            try:
                line.decode() if isinstance(error, UnicodeDecodeError) else None
            except UnicodeDecodeError as found:
                byte = line[found.start]
                if len(line) - found.start > 3 or line.endswith(b"\n"):
                    told = f"byte 0x{byte:02x} is not UTF-8; save as UTF-8"
                    return CohortError(f"{place}:{number}: {told}")
            if isinstance(error, _Unreadable) and b"\0" in line:
                return CohortError(f"{place}:{number}: {told}")
    return CohortError(f"{place}: {told}")


def _opened(path: Path) -> _Lines:
    """Open a text file, or one that gzip made if its name says so."""
    try:
        file = path.open("rb")
        magic = file.read(3)
        file.seek(0)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise CohortError(f"{path}: cannot be read: {told}") from None
    named = path.suffix.lower() == ".gz"
    zipped = magic[:2] == _GZIP
    if named and zipped:
        file.close()
        return _Lines(path, gzip.open(path, "rb"))
    remedy = None
    if zipped:
        remedy = "the file is compressed by gzip; decompress it first (gunzip), or name it .gz"
    elif named:
        remedy = "the file is named .gz but gzip did not make it; download it again"
    elif magic[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        remedy = "the file is UTF-16; save it as UTF-8"
    elif magic == b"PK\x03":
        remedy = "the file is a ZIP or a spreadsheet; save the table as .csv"
    if remedy:
        file.close()
        raise CohortError(f"{path}: {remedy}")
    return _Lines(path, file)


def _text(path: Path) -> str:
    with _opened(path) as lines:
        return "".join(lines)
