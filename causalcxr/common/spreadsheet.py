"""Tables as .csv files for spreadsheets: no cell is a formula, and every text can be restored.

A text that begins with `=`, `+`, `-`, `@`, a tab or an end of line, and is not a number, is
written with a leading apostrophe, so that a spreadsheet shows it as text. A text that already has
apostrophes before such a character gets one more, so that the first can always be removed.

References:
    CSV injection, https://owasp.org/www-community/attacks/CSV_Injection.
"""

import csv
import re
from typing import Any

import pandas as pd

__all__ = ["csv_text", "headed_csv", "marked", "unmarked", "unmarked_table"]

# The start of a formula, also in the full width that some spreadsheets convert.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]inf", re.ASCII)


def marked(text: str) -> str:
    """Return a text as it is written to a .csv: with an apostrophe if it could be a formula.

    Example:
        >>> marked("=1+1"), marked("-5"), marked("'quoted'"), marked("'=1+1")
        ("'=1+1", '-5', "'quoted'", "''=1+1")
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unmarked(text: str) -> str:
    """Return the text that `marked` wrote.

    Example:
        >>> unmarked("'=1+1"), unmarked("-5"), unmarked("'quoted'"), unmarked("''=1+1")
        ('=1+1', '-5', "'quoted'", "'=1+1")
    """
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def csv_text(table: pd.DataFrame, *, index: bool = True, end: str = "\n") -> str:
    r"""Return a table as the text of a .csv file for spreadsheets.

    Args:
        table: Texts in cells, headings and index are written by `marked`, numbers unchanged.
        index: Whether the index is written.
        end: The end of a line.

    Example:
        >>> csv_text(pd.DataFrame({"note": ["=1+1", "x"], "change": [-0.5, 2]}), index=False)
        "note,change\n'=1+1,-0.5\nx,2.0\n"
    """
    cells = {k: _marked_column(table.iloc[:, k]) for k in range(table.shape[1])}
    safe = pd.DataFrame(cells, index=table.index).set_axis(_marked_index(table.columns), axis=1)
    if index:
        safe.index = _marked_index(table.index)
    text = safe.to_csv(index=index, lineterminator=end)
    if "\r" in text and "\r" not in end:  # not quoted, it would be read as the end of a line
        return safe.to_csv(index=index, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC)
    return text


def headed_csv(table: pd.DataFrame) -> str:
    r"""Return a table of results as `csv_text` does, (variable, level) as one heading.

    Example:
        >>> columns = pd.MultiIndex.from_tuples([("Sex", "F"), ("Age", "")])
        >>> headed_csv(pd.DataFrame([[0.5, 61]], columns=columns))
        'Sex=F,Age\n0.5,61\n'
    """
    if table.columns.nlevels > 1:
        names = [f"{name}={level}" if level else str(name) for name, level in table.columns]
        table = table.set_axis(names, axis=1)
    return csv_text(table, index=table.index.names != [None])


def unmarked_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table read from a file of `csv_text`, with its texts and headings unmarked.

    Example:
        >>> unmarked_table(pd.DataFrame({"'=x": ["'=1+1", "x"]})).to_dict("list")
        {'=x': ['=1+1', 'x']}
    """
    texts = [k for k in range(table.shape[1]) if _holds_texts(table.iloc[:, k])]
    cells = {
        k: _mapped(table.iloc[:, k], unmarked) if k in texts else table.iloc[:, k]
        for k in range(table.shape[1])
    }
    names = [_if_text(name, unmarked) for name in table.columns]
    return pd.DataFrame(cells, index=table.index).set_axis(names, axis=1)


def _marked_column(column: pd.Series) -> pd.Series:
    return _mapped(column, marked) if _holds_texts(column) else column


def _holds_texts(column: pd.Series) -> bool:
    return column.dtype.kind not in "iufbcmM"


def _mapped(column: pd.Series, change: Any) -> pd.Series:
    """Return a column with its texts changed; each distinct text is converted once."""
    texts = {each for each in column if isinstance(each, str)}
    changed = {text: change(text) for text in texts if change(text) != text}
    if not changed:
        return column
    return pd.Series(
        [changed.get(each, each) if isinstance(each, str) else each for each in column],
        index=column.index,
        dtype=object,
    )


def _if_text(value: Any, change: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_if_text(each, change) for each in value)
    return change(value) if isinstance(value, str) else value


def _marked_index(index: pd.Index) -> pd.Index:
    names = [_if_text(name, marked) for name in index.names]
    if index.nlevels == 1:
        if index.dtype.kind in "iufbcmM":
            return index.set_names(names)
        labels = [_if_text(each, marked) for each in index]
        return pd.Index(labels, name=names[0], dtype=object, tupleize_cols=False)
    levels = [
        _marked_index(index.get_level_values(k)).set_names(names[k]) for k in range(index.nlevels)
    ]
    return pd.MultiIndex.from_arrays(levels, names=names)
