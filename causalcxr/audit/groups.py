"""Groups of patients: columns of a table and their intersections, and weights to balance them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import pandas as pd

from causalcxr.audit.checked_arrays import read_labels
from causalcxr.audit.group_levels import AGE_EDGES, UNKNOWN, levels_of
from causalcxr.cohort.ids import patient_numbers
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError, nearest

__all__ = [
    "AGE_EDGES",
    "ALL",
    "UNKNOWN",
    "Balance",
    "Groups",
    "balance",
    "find_groups",
    "levels_of",
]

ALL = "all"
_MOST_GROUPS = 1000
# Columns of the table of groups, which a column of that name would replace.
_RESERVED = ("columns", "n", "positives", "negatives", "patients", "few", "group")


@dataclass(frozen=True, eq=False)
class Groups:
    """Hold groups of rows, which may overlap.

    Args:
        masks: Name, such as `Sex=F & View=AP`, -> rows, shape (n,); the first is `all`.
        table: A row a group, indexed by name: `columns` (how many define it), a column for each
            of `by` with the level ("" if the column does not define the group), `n`,
            `positives`, `negatives` (known labels), `patients`, and `few`, whether there are too
            few positives or negatives.
        by: The columns.
    """

    masks: Mapping[str, np.ndarray]
    table: pd.DataFrame
    by: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names, in the order of the table."""
        return list(self.masks)


@rows_by_id("table", "labels", "patients")
def find_groups(
    table: pd.DataFrame,
    by: str | Sequence[str],
    *,
    labels: np.ndarray | Sequence[float] | None = None,
    patients: np.ndarray | Sequence[object] | None = None,
    edges: Mapping[str, Sequence[float]] | None = None,
    depth: int | None = None,
    few: int = 10,
) -> Groups:
    """Return the groups of rows by each column and by every combination of columns.

    Args:
        table: The columns; a missing value is a level of its own, "unknown".
        by: Names of columns.
        labels: Shape (n,), 0, 1 or NaN; without them positives and negatives are 0, and no group
            is flagged.
        patients: Patient of each row; by default every row is a patient.
        edges: For numeric columns, the edges of bins, which include their lower edge; Age has the
            bins 0-18-40-60-80+.
        depth: The greatest number of columns in a combination; by default all.
        few: Positives and negatives below which a group is flagged.

    Raises:
        CausalCXRError: If a column is missing, has numbers without edges or too many levels, has
            a reserved name, or two groups have the same name.

    Example:
        >>> table = pd.DataFrame({"Sex": ["F", "M", None], "Age": [5, 17, 90]})
        >>> find_groups(table, ["Sex", "Age"], depth=1).table["n"].to_dict()
        {'all': 3, 'Sex=F': 1, 'Sex=M': 1, 'Sex=unknown': 1, 'Age=0-18': 2, 'Age=80+': 1}
    """
    by = _columns(table, by)
    if taken := [name for name in by if name in _RESERVED]:
        raise CausalCXRError(
            f"groups: the column name {taken[0]!r} is reserved for the result; rename it, as in "
            f"table.rename(columns={{{taken[0]!r}: 'my {taken[0]}'}})"
        )
    levels = {name: levels_of(table[name], (edges or {}).get(name)) for name in by}
    masks = {ALL: np.ones(len(table), dtype=bool)}
    rows: list[dict[str, object]] = [{"columns": 0}]
    # Single columns first, then pairs, and so on.
    sizes = range(1, min(depth or len(by), len(by)) + 1)
    for names in chain.from_iterable(combinations(by, size) for size in sizes):
        for label, cell, mask in _cells(names, levels):
            # Masks are looked up by name, so two groups of one name would merge.
            if label in masks:
                raise CausalCXRError(
                    f"groups: two groups are called {label!r}; rename a level or a column of "
                    f"{', '.join(map(repr, by))}"
                )
            if len(masks) > _MOST_GROUPS:
                raise CausalCXRError(
                    f"groups: more than {_MOST_GROUPS:,} groups by {', '.join(map(str, by))}; "
                    "give fewer columns, or columns of fewer levels"
                )
            masks[label] = mask
            rows.append({"columns": len(names)} | cell)
    groups = pd.DataFrame(rows, index=pd.Index(list(masks), name="group"))
    # A column that does not define a group is empty in its row.
    groups = groups.reindex(columns=["columns", *by]).fillna(dict.fromkeys(by, ""))
    return Groups(masks, _counted(groups, masks, labels, patients, few), by)


@dataclass(frozen=True, eq=False)
class Balance:
    """Hold weights that give every group the same joint distribution of other columns.

    Args:
        weights: Shape (n,); 0 for rows that are left out. The weights of a group sum to the
            number of its rows that are kept.
        table: A row a group: `n`, `kept` rows, `effective` (sum of weights)^2 / sum of squares,
            and `greatest` weight. With a small effective number the comparison is weak.
        cells: A row a cell: its levels, the `share` of the target in it (NaN if dropped), `rows`,
            and `dropped`, the groups that lack it.
        dropped_cells: Number of cells that some group lacks, which are left out for all.
        dropped_rows: Number of rows in these cells.
        left_out: Number of rows outside the balanced groups, or without a label.
    """

    weights: np.ndarray
    table: pd.DataFrame
    cells: pd.DataFrame
    dropped_cells: int
    dropped_rows: int
    left_out: int


@rows_by_id("table", "labels")
def balance(
    table: pd.DataFrame,
    group: str,
    on: str | Sequence[str],
    *,
    labels: np.ndarray | Sequence[float] | None = None,
    edges: Mapping[str, Sequence[float]] | None = None,
    among: Iterable[str] | None = None,
) -> Balance:
    r"""Return weights under which all groups have the same distribution of columns and label.

    A row of group g in cell c weighs $\pi(c) n_g / n_{gc}$, where $\pi$ is the distribution of
    cells over the rows of all groups and $n_{gc}$ the rows of g in c. Differences
    that remain between groups are not explained by these columns or by prevalence.

    References:
        Algorithmic encoding of protected characteristics in chest X-ray disease detection models
        (Glocker et al., 2023), which resamples test sets so.

    Args:
        table: The columns.
        group: The column whose levels are the groups.
        on: The columns to balance; numeric ones in bins, as in `find_groups`.
        labels: Shape (n,), 0, 1 or NaN; if given, cells are also split by label.
        edges: As in `find_groups`.
        among: The groups to balance; by default all except "unknown".

    Raises:
        CausalCXRError: If a column or a group is missing, or no cell is in all groups.

    Example:
        >>> table = pd.DataFrame({"Sex": list("FFFM"), "View": ["AP", "AP", "PA", "AP"]})
        >>> balance(table, "Sex", "View").weights.tolist()
        [1.0, 1.0, 0.0, 1.0]
    """
    on = _columns(table, on)
    (group,) = _columns(table, group)
    levels = levels_of(table[group], (edges or {}).get(group))
    chosen = [level for level in levels.categories if level != UNKNOWN]
    # Rows of unknown level are left out, unless `among` lists it.
    chosen = chosen if among is None else list(among)
    for level in chosen:
        if level not in levels.categories:
            hint = nearest(level, levels.categories)
            raise CausalCXRError(f"balance: column {group!r} has no level {level!r}{hint}")
    cells = pd.DataFrame({name: levels_of(table[name], (edges or {}).get(name)) for name in on})
    take = np.isin(np.asarray(levels, dtype=str), chosen)
    if labels is not None:
        cells["label"] = read_labels(labels)
        take &= cells["label"].notna().to_numpy()
    # Rows per group and cell; only cells with rows of every group can be balanced.
    member = pd.Categorical(levels, categories=chosen).codes[take]
    cell, keys = _coded(cells.loc[take])
    counts = np.zeros((len(chosen), len(keys)))
    np.add.at(counts, (member, cell), 1)
    shared = (counts > 0).all(0)
    if not shared.any():
        raise CausalCXRError(
            f"balance: no cell of {', '.join(cells)} is in every group of {group!r}; "
            "give wider bins, fewer columns or fewer groups"
        )
    # Weights: the share of the cell in all groups, over its share in the own group.
    share = np.where(shared, counts.sum(0), 0) / counts[:, shared].sum()
    size = counts[:, shared].sum(1)
    each = np.where(shared, share * size[:, None] / np.maximum(counts, 1), 0)
    weights = np.zeros(len(table))
    weights[take] = each[member, cell]
    # Report what was dropped: the weights hold for the shared cells only.
    keys = keys.assign(share=np.where(shared, share, np.nan), rows=counts.sum(0).astype(int))
    keys["dropped"] = [", ".join(np.array(chosen)[column == 0]) for column in counts.T]
    summary = _weight_table(chosen, member, weights[take])
    dropped = int(counts[:, ~shared].sum())
    return Balance(weights, summary, keys, int((~shared).sum()), dropped, int((~take).sum()))


def _weight_table(chosen: list[str], member: np.ndarray, weights: np.ndarray) -> pd.DataFrame:
    """Return the number of rows and the weights of each group."""
    grouped = pd.Series(weights).groupby(member)
    squares = pd.Series(weights**2).groupby(member).sum()
    figures = {
        "n": grouped.size(),
        "kept": pd.Series(weights > 0).groupby(member).sum(),
        "effective": grouped.sum() ** 2 / squares,
        "greatest": grouped.max(),
    }
    table = pd.DataFrame(figures).reindex(range(len(chosen)), fill_value=0)
    return table.set_axis(pd.Index(chosen, name="group"))


def _columns(table: pd.DataFrame, by: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of columns; a missing column is refused."""
    by = (by,) if isinstance(by, str) else tuple(dict.fromkeys(by))
    for name in by:
        if name not in table:
            hint = nearest(name, table.columns) or f"; it has {', '.join(map(str, table))}"
            raise CausalCXRError(f"groups: the table has no column {name!r}{hint}")
    return by


def _cells(names: Sequence[str], levels: Mapping[str, pd.Categorical]) -> Iterable[tuple]:
    """Yield name, level of each column, and mask of each combination of levels that occurs."""
    codes = pd.DataFrame({name: levels[name].codes for name in names})
    cell, keys = _coded(codes)
    for i, key in enumerate(keys.itertuples(index=False)):
        cells = {n: levels[n].categories[c] for n, c in zip(names, key, strict=True)}
        yield " & ".join(f"{n}={level}" for n, level in cells.items()), cells, cell == i


def _coded(rows: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the number of the combination of values in each row, and the combinations."""
    grouped = rows.groupby(list(rows), observed=True, sort=True)
    keys = grouped.size().reset_index()[list(rows)]
    return grouped.ngroup().to_numpy(), keys


def _counted(
    groups: pd.DataFrame,
    masks: Mapping[str, np.ndarray],
    labels: np.ndarray | Sequence[float] | None,
    patients: np.ndarray | Sequence[object] | None,
    few: int,
) -> pd.DataFrame:
    """Return the table of groups with the number of rows, positives, negatives and patients."""
    n = len(next(iter(masks.values())))
    y = np.full(n, np.nan) if labels is None else read_labels(labels)
    if len(y) != n:
        raise CausalCXRError(f"groups: {len(y)} labels for {n} rows; give one per row")
    numbers, _ = patient_numbers(patients, n, "groups")
    groups["n"] = [int(mask.sum()) for mask in masks.values()]
    groups["positives"] = [int((y[mask] == 1).sum()) for mask in masks.values()]
    groups["negatives"] = [int((y[mask] == 0).sum()) for mask in masks.values()]
    groups["patients"] = [len(np.unique(numbers[mask])) for mask in masks.values()]
    rare = groups[["positives", "negatives"]].min(axis=1) < few
    groups["few"] = rare & (labels is not None)
    return groups
