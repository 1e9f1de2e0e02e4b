"""The table of a store in parquet: one row for each record, with the place of its image."""

import importlib
import io
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError, brief, install
from causalcxr.common.files import atomic_file

__all__ = ["SHARD", "SLOT", "SYNTHETIC", "index_table", "parquet", "read_index", "write_index"]

SHARD, SLOT = "image shard", "image slot"  # -1 where a record has no image
SYNTHETIC = "image synthetic"  # whether the image was computed
_RESERVED = ("record", "draw", "patient", "split", SHARD, SLOT, SYNTHETIC)
_ROWS = 2**17  # of a row group, so that readers can load some columns of some rows


def parquet() -> ModuleType:
    """Return the module `pyarrow.parquet`.

    Raises:
        CohortError: If pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise CohortError(
            f"a store needs pyarrow, which is not installed; {install('store')}"
        ) from None


def index_table(cohort: Cohort) -> pd.DataFrame:
    """Return the records of a cohort with their ids as columns, in types that parquet has.

    Raises:
        CohortError: If the name of a column is reserved, or its values are of several types.

    Example:
        >>> cohort = Cohort(pd.DataFrame({"Age": [61]}, index=["a"]))
        >>> index_table(cohort).to_dict("records")
        [{'record': 'a', 'patient': 'a', 'Age': 61}]
    """
    table = cohort.table
    if taken := [name for name in table if name in _RESERVED]:
        raise CohortError(f"column {taken[0]!r} has a name that the store reserves; rename it")
    ids: dict[str, Any] = {"record": cohort.records.to_numpy()}
    if cohort.index.nlevels > 1:
        ids["draw"] = cohort.draws
    ids["patient"] = cohort.patients.to_numpy()
    if cohort.splits is not None:
        ids["split"] = cohort.splits.to_numpy()
    columns = {**ids, **{str(name): table[name].to_numpy() for name in table}}
    return pd.DataFrame({name: _of_one_type(name, values) for name, values in columns.items()})


def write_index(file: Any, table: pd.DataFrame) -> None:
    """Write the table of a store atomically; equal tables give equal bytes."""
    import pyarrow as pa

    described = pa.Table.from_pandas(table, preserve_index=False)
    with atomic_file(file) as opened:
        # The file holds no metadata of pandas and no time, so it depends on the rows alone.
        parquet().write_table(described, opened, compression="zstd", row_group_size=_ROWS)


def read_index(content: bytes, place: str) -> pd.DataFrame:
    """Return the table of a store.

    Raises:
        CohortError: If it is not parquet, or lacks a column.
    """
    reader = parquet()
    import pyarrow as pa

    try:
        table = reader.read_table(io.BytesIO(content)).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n")[0][:120]
        raise CohortError(f"{place}: damaged ({reason}); build the store again") from None
    if absent := [name for name in ("record", "patient", SHARD, SLOT) if name not in table]:
        raise CohortError(f"{place}: no column {absent[0]!r}; build the store again")
    return table


def _of_one_type(name: str, values: np.ndarray) -> pd.Series:
    """Return a column of numbers, of booleans or of texts; missing cells stay missing."""
    column = pd.Series(values)
    if column.dtype.kind in "iufb":
        return column
    column = column.astype(object)
    empty = column.isna().to_numpy()
    types = {type(value) for value in column[~empty]}
    if types <= {str}:
        # Missing again after the cast, in which pandas 2 writes them out as text.
        return column.where(~empty, None).astype("str").where(~empty, None)
    if types <= {bool, np.bool_}:
        return column.where(~empty, None).astype("boolean")
    try:
        return column.where(~empty, np.nan).astype(np.float64)
    except (TypeError, ValueError):
        odd = next(value for value in column[~empty] if not isinstance(value, str))
        raise CohortError(
            f"column {name!r} holds texts and also {brief(odd)}; make them all texts or all "
            "numbers before storing it"
        ) from None
