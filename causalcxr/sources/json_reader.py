"""JSON files of published data sets, read strictly, and their values as texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError
from causalcxr.common.text_file import read_whole
from causalcxr.sources.csv_reader import without_garbage_collection

__all__ = ["as_texts", "read_json", "read_json_lines", "require_fields"]


def read_json(path: Path) -> Any:
    """Return the content of a .json file.

    Raises:
        CohortError: If it is missing, not JSON, or nested too deeply.
    """
    try:
        with without_garbage_collection():
            return json.loads(read_whole(path))
    except json.JSONDecodeError as error:
        raise CohortError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); download it again"
        ) from None
    except RecursionError:
        raise CohortError(f"{path}: nested too deeply to be data") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    r"""Return the objects of a file that holds one JSON object per line.

    Raises:
        CohortError: With the line, if a line is not an object.

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
        # One call for the whole file; line by line only to locate an error.
        with without_garbage_collection():
            records = json.loads(f"[{','.join(filled)}]")
    except (json.JSONDecodeError, RecursionError):
        records = []
    if len(records) != len(filled) or set(map(type, records)) - {dict}:
        raise CohortError(f"{path}:{_first_bad(lines)}: not a JSON object; download it again")
    if not records:
        raise CohortError(f"{path}: the file is empty")
    return records


def require_fields(path: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise an error if a table of JSON objects lacks a field."""
    for name in names:
        if name not in table:
            fields = ", ".join(map(str, table))[:200]
            raise CohortError(f"{path}: no field {name!r}; it has {fields}")


def as_texts(values: pd.Series | Sequence[Any]) -> pd.Categorical:
    """Return values of any kind as texts, "" where missing; each distinct value is written once.

    Example:
        >>> as_texts(["M", None, 61, 61.0]).tolist()
        ['M', '', '61', '61']
    """
    array = pd.Series(values, dtype=object).to_numpy()
    try:
        codes, distinct = pd.factorize(array, use_na_sentinel=False)
    except TypeError:  # lists and objects in place of texts
        hashable = [f"{type(v).__name__} {v}" if isinstance(v, list | dict) else v for v in array]
        array = pd.Series(hashable, dtype=object).to_numpy()
        codes, distinct = pd.factorize(array, use_na_sentinel=False)
    texts = ["" if pd.isna(value) else _as_text(value) for value in distinct]
    # 61 and 61.0 are different values with one text.
    text_codes, distinct_texts = pd.factorize(np.array(texts, dtype=object))
    return pd.Categorical.from_codes(text_codes[codes], pd.Index(distinct_texts, dtype=object))


def _as_text(value: Any) -> str:
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if is_whole else value)


def _first_bad(lines: list[str]) -> int:
    """Return the number, from 1, of the first line that is not an object."""
    for number, line in enumerate(lines, 1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return number
        except (json.JSONDecodeError, RecursionError):
            return number
    return len(lines)
