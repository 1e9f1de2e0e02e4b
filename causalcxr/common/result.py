"""The interface of every result: a table, a summary, a plot, files, text and HTML."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.common.files import atomic_write, cannot_write
from causalcxr.common.result_digests import content_identity
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import headed_csv

if TYPE_CHECKING:
    from causalcxr.common.figure import Page

__all__ = ["Result", "Shown", "content_folder", "write_result"]

_SHOWN = 20  # rows of a summary in a text or a notebook


@runtime_checkable
class Result(Protocol):
    """The interface of a cohort, a comparison, and every result of a model or an audit.

    `table` has all values, `summary()` the main ones, one row each; `plot()` draws them, `save()`
    writes them, `print(result)` and a notebook show the summary.
    """

    @property
    def table(self) -> pd.DataFrame:
        """All values."""
        ...

    def summary(self) -> pd.DataFrame:
        """Return the main values."""
        ...

    def plot(self) -> "Page":
        """Draw the main values; `path=` also writes the drawing."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write the result to a folder."""
        ...

    def _repr_html_(self) -> str: ...


class Shown(ABC):
    """A result whose summary is shown as text and HTML, and that can be saved."""

    @property
    @abstractmethod
    def heading(self) -> str:
        """What the result describes, in one line."""

    @abstractmethod
    def summary(self) -> pd.DataFrame:
        """Return the main values, one row each."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name, as they are written; a .csv gets the first."""
        return {"table": self.table}

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the result, completely or not at all.

        Args:
            path: A .csv for the table, a .png for the plot, or a folder for every table, the plot
                and a manifest with the arguments.
            overwrite: Replace the result that the folder holds.

        Raises:
            CohortError: If the folder holds something else, or cannot be written.
        """
        return write_result(self, Path(path), overwrite=overwrite)

    def _printed(self) -> pd.DataFrame:
        """Return the rows of the summary that a text shows."""
        return self.summary()

    def __str__(self) -> str:
        summary = self._printed()
        if not len(summary):
            return self.heading
        text = summary.head(_SHOWN).to_string(float_format=_number, na_rep="")
        return "\n".join([self.heading, text, *_left_out(summary)])

    def _repr_html_(self) -> str:
        summary = self.summary()
        # pandas escapes the names and the cells of the table.
        body = summary.head(_SHOWN).to_html(float_format=_number, na_rep="", border=0)
        rest = "".join(f"<p>{line}</p>" for line in _left_out(summary))
        return f"<div><p>{escape(self.heading)}</p>{body if len(summary) else ''}{rest}</div>"


def write_result(result: Any, path: Path, *, overwrite: bool = False) -> Path:
    """Write a result to a .csv, a .png or a folder; see `Shown.save`.

    Raises:
        CohortError: If the folder holds something else, or cannot be written.
    """
    if path.suffix in (".csv", ".png"):
        try:
            # A .csv file holds the first table, a .png file the figure.
            table = next(iter(result.tables.values()))
            return atomic_write(path, headed_csv(table) if path.suffix == ".csv" else _png(result))
        except OSError as fault:
            raise cannot_write(path, fault, CohortError) from None
    # Any other path is a folder: every table, and the figure if there is one.
    name = type(result).__name__.lower()
    folder = ResultFolder(path, f"causalcxr {name}", f"a result ({name})", None, overwrite)
    with folder.writing() as draft:
        for title, table in result.tables.items():
            atomic_write(draft.place / f"{title.replace(' ', '-')}.csv", headed_csv(table))
        with contextlib.suppress(CausalCXRError):  # if nothing can be drawn, the tables suffice
            atomic_write(draft.place / f"{name}.png", _png(result))
        draft.finish({"result": result.heading, "asked": dict(getattr(result, "about", {}))})
    return path


def content_folder(
    folder: str | Path,
    name: str,
    words: str,
    content: Sequence[str],
    *,
    overwrite: bool,
    error: type[CausalCXRError],
) -> ResultFolder:
    """Return the folder of a result that its own content identifies.

    Args:
        folder: The folder.
        name: The name of the kind; version 0.1.0 is recognised by its `<name>.json`.
        words: Its name in messages.
        content: The texts that determine it.
        overwrite: Replace the result that the folder holds.
        error: The class of the errors to raise.
    """

    def older(path: Path) -> bool:
        return (path / f"{name}.json").is_file()

    identity = content_identity(content)
    kind = f"causalcxr {name}"
    return ResultFolder(Path(folder), kind, words, identity, overwrite, error, older)


def _png(result: Any) -> bytes:
    return result.plot().png()


def _left_out(summary: pd.DataFrame) -> list[str]:
    more = len(summary) - _SHOWN
    return [f"... and {more:,} more rows; see .summary()"] if more > 0 else []


def _number(value: float) -> str:
    return f"{value:.4g}"
