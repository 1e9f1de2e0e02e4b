"""Tables of scores that were computed elsewhere, as a classifier."""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.audit.classifier import Classifier
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.columns import MISSING_WORDS
from causalcxr.cohort.csv_table import read_cells
from causalcxr.common.alignment import aligned
from causalcxr.common.errors import ClassifierError, CohortError, brief, nearest

__all__ = ["ScoreTable"]


class ScoreTable(Classifier):
    """Look up scores that were computed elsewhere, one per record (or record and draw).

    Args:
        scores: A Series by record, or by (record, draw), for the factual records; or a mapping
            from names of worlds to such Series.
        name: Name in reports.
        target: See `Classifier`.
        origin: The file, for messages.
    """

    reads_images = False
    scores_any = False

    def __init__(
        self,
        scores: pd.Series | Mapping[str, pd.Series],
        *,
        name: str = "scores",
        target: str | None = None,
        origin: str | Path = "scores",
    ) -> None:
        super().__init__(name, target)
        self.origin = str(origin)
        worlds = {"factual": scores} if isinstance(scores, pd.Series) else dict(scores)
        for world, table in worlds.items():
            # Of two scores of a record, neither is chosen silently.
            if table.index.has_duplicates:
                repeated = table.index[table.index.duplicated()][0]
                raise ClassifierError(
                    f"{origin}: record {brief(repeated)} has two scores ({world}); keep one"
                )
            texts = [isinstance(score, str) for score in table]
            if any(texts):
                row = texts.index(True)
                raise ClassifierError(
                    f"{origin}: the score {brief(table.iloc[row])} of record "
                    f"{brief(table.index[row])} is text ({sum(texts):,} of {len(texts):,}); give "
                    "numbers, such as 0.3"
                )
        self.worlds, self.world = worlds, "factual"

    @classmethod
    def read(
        cls, path: str | Path, *, column: str = "score", target: str | None = None
    ) -> "ScoreTable":
        """Read a .csv with the columns `record` and `score`, and optionally `world` and `draw`.

        `world` is factual, twin, null or direct (factual without the column), `draw` the number of
        the posterior draw.

        Raises:
            ClassifierError: If the file cannot be read or a column is missing.
        """
        try:
            table = read_cells(Path(path))
        except CohortError as error:
            raise ClassifierError(f"{error}; give a .csv of record and score") from None
        for name in ("record", column):
            if name not in table:
                raise ClassifierError(
                    f"{path}: there is no column {name!r}{nearest(name, table.columns)}; record "
                    "and score are needed"
                )
        # With draws, each posterior draw of a twin has a score.
        keys = ["record", "draw"] if "draw" in table else ["record"]
        for name in (column, *keys[1:]):
            table[name] = _numbers(table, name, path)
        if "world" not in table:
            table["world"] = "factual"
        worlds = {
            str(world): part.set_index(keys)[column] for world, part in table.groupby("world")
        }
        return cls(worlds, name=Path(path).stem, target=target, origin=path)

    def in_world(self, world: str) -> "ScoreTable | None":
        """Return the scores of one world, None if there are none."""
        if world not in self.worlds:
            if world in ("factual", "twin"):
                raise ClassifierError(
                    f"{self.origin}: there are no scores of world {world!r}; score its images, "
                    f"too, with {world} in the column 'world'"
                )
            return None
        other = copy.copy(self)
        other.world = world
        return other

    def _raw(self, cohort: Cohort) -> np.ndarray:
        table = self.worlds[self.world]
        table = table.set_axis(_as_texts(table.index))
        what = f"{self.origin}: {self.world} scores"
        scores = aligned(table, _as_texts(cohort.index), what, more=True, error=ClassifierError)
        return scores.to_numpy()


def _numbers(table: pd.DataFrame, name: str, path: str | Path) -> pd.Series:
    """Return a column of texts as numbers, missing where a cell is empty or NA."""
    cells = table[name].str.strip()
    cells = cells.where(~cells.isin(("", *MISSING_WORDS)))
    numbers = pd.to_numeric(cells, errors="coerce")
    is_text = (numbers.isna() & cells.notna()).to_numpy()
    if is_text.any():
        row = int(is_text.argmax())
        raise ClassifierError(
            f"{path}: record {brief(table['record'].iat[row])}: {name} {brief(cells.iat[row])} is "
            f"not a number ({is_text.sum():,} rows); write it as 0.3, with a decimal point"
        )
    is_whole = numbers.notna().all() and (numbers == np.rint(numbers)).all()
    return numbers.astype(np.int64 if name == "draw" and is_whole else np.float64)


def _as_texts(index: pd.Index) -> pd.Index:
    """Return an index whose records are texts, as a .csv does not distinguish numbers."""
    if index.nlevels == 1:
        return index.astype(str)
    first, second = (index.get_level_values(k) for k in (0, 1))
    return pd.MultiIndex.from_arrays([first.astype(str), second])
