"""Missing values of many records, split into blocks that the observed values separate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from causalcxr.graph.graph import Graph

__all__ = ["Blocks", "split_missing"]


@dataclass(frozen=True)
class Blocks:
    """Blocks of missing values: given the observed values, the blocks of a record are independent.

    Args:
        rows: The row of each block, shape (b,).
        labels: The first variable of each block, as a position, shape (b,).
        members: Which variables are missing in the block, shape (b, v), in the order of `names`.
        touched: The variables whose equations have a member in them, shape (b, v).
        levels: The number of levels of each variable, infinite if it is continuous, shape (v,).
        barren: Which values are missing without an observed descendant, in all n rows, shape
            (n, v). They belong to no block: nothing observed depends on them.
    """

    rows: np.ndarray
    labels: np.ndarray
    members: np.ndarray
    touched: np.ndarray
    levels: np.ndarray
    barren: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def states(self) -> np.ndarray:
        """The number of joint states of each block, shape (b,), infinite with a continuous one."""
        return np.where(self.members, self.levels, 1.0).prod(1)

    def take(self, which: np.ndarray | slice) -> "Blocks":
        """Return some of the blocks, by a mask, positions or a slice."""
        parts = {name: getattr(self, name)[which] for name in _BY_BLOCK}
        return replace(self, **parts)

    def enumerated(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each variable and its level in every joint state, shape (b, size), float64.

        Args:
            size: The number of joint states, the same in all of these blocks.
        """
        # Joint states are numbers in a mixed radix, one digit per member.
        radix = np.where(self.members, self.levels, 1.0).astype(np.int64)
        stride = np.cumprod(radix, axis=1) // radix
        for i in np.flatnonzero(self.members.any(0)):
            state = np.arange(size) // stride[:, i, None] % radix[:, i, None]
            yield int(i), state.astype(np.float64)


_BY_BLOCK = ("rows", "labels", "members", "touched")


def split_missing(graph: Graph, names: Sequence[str], missing: np.ndarray) -> Blocks:
    """Return the blocks of missing values of many records.

    Args:
        graph: The graph.
        names: v variables that have an equation, parents before children. Others are neither
            evidence nor filled in.
        missing: Which of their values are missing, shape (n, v).

    Example:
        >>> graph = Graph.load("mini")
        >>> names = ["Age", "Sex", "View", "Pleural Effusion"]
        >>> blocks = split_missing(graph, names, np.array([[False, True, True, False]]))
        >>> blocks.members.astype(int).tolist(), blocks.states.tolist()
        ([[0, 1, 0, 0]], [2.0])
        >>> blocks.barren.astype(int).tolist()
        [[0, 0, 1, 0]]
    """
    place = {name: i for i, name in enumerate(names)}
    # A family is a variable and its parents: an equation joins all of them.
    families = [
        [i, *(place[p] for p in graph[name].parents if p in place)] for i, name in enumerate(names)
    ]
    # Missing values without an observed descendant; children are visited before parents.
    barren = missing.copy()
    for i in reversed(range(len(names))):
        for j, family in enumerate(families):
            if i in family[1:]:
                barren[:, i] &= barren[:, j]
    # The others need the observed values; those that share an equation form a block.
    core = missing & ~barren
    label = _connected(families, core, ~barren)
    # One block per label, found at the member whose position is the label.
    rows, labels = np.nonzero(core & (label == np.arange(len(names))))
    members = core[rows] & (label[rows] == labels[:, None])
    # The equations that weight a block: those with a member in their family.
    touched = np.zeros_like(members)
    for i, family in enumerate(families):
        touched[:, i] = members[:, family].any(1) & ~barren[rows, i]
    levels = [float(len(graph[n].levels)) if graph[n].is_discrete else np.inf for n in names]
    return Blocks(rows, labels, members, touched, np.array(levels), barren)


def _connected(families: list[list[int]], core: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Return the smallest position that each missing value is connected to, shape (n, v).

    Two missing values are connected if both occur in an equation that is evidence.
    """
    v = core.shape[1]
    # Every missing value starts alone; `v` means not missing.
    label = np.where(core, np.arange(v), v)
    while True:
        before = label.copy()
        # The smallest label spreads over each family, until nothing changes.
        for i, family in enumerate(families):
            mine = core[:, family] & active[:, i, None]
            smallest = np.where(mine, label[:, family], v).min(1, keepdims=True)
            label[:, family] = np.where(mine, smallest, label[:, family])
        if (label == before).all():
            return label
