"""The parents as features of a network, in which missing is a value of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError
from causalcxr.graph.graph import Variable
from causalcxr.mechanisms.quantile import QuantileNormal, Standard

__all__ = ["ParentEncoder"]

_SELDOM = 0.01  # a parent missing in a smaller share of training rows does not train its flag


class ParentEncoder(nn.Module):
    """Encode the parents' columns as features.

    A continuous parent gives its standardised value and a missing flag; a discrete parent of K
    levels gives K indicators and a missing flag. A missing parent has zeros and its flag set, so
    no NaN reaches the network.

    Args:
        parents: The parents, none of them an image.
        dropout: The rate at which `drop` hides each parent that is seldom missing in training.

    Attributes:
        width: The number of features d, zero without parents.
        scores: The normal scores of the continuous parents: how far out a value is.
    """

    def __init__(self, parents: Sequence[Variable], *, dropout: float = 0.25) -> None:
        super().__init__()
        self.parents = tuple(parents)
        self.dropout = dropout
        for parent in self.parents:
            if parent.is_image:
                raise MechanismError(f"parent {parent.name!r} is an image, which has no children")
        # Each parent has one feature, or one per level, and then the flag that it is missing.
        sizes = [len(p.levels) if p.is_discrete else 1 for p in self.parents]
        starts = [sum(sizes[:i]) + i for i in range(len(sizes))]
        self.width = sum(sizes) + len(sizes)
        self.continuous = [(i, starts[i]) for i, p in enumerate(self.parents) if not p.is_discrete]
        self.discrete = [(i, starts[i]) for i, p in enumerate(self.parents) if p.is_discrete]
        self.scores = nn.ModuleList(QuantileNormal() for _ in self.continuous)
        self.standards = nn.ModuleList(Standard() for _ in self.continuous)
        # The parent of each feature, and what its features are when it is missing.
        owner = [i for i, size in enumerate(sizes) for _ in range(size + 1)]
        null = torch.zeros(self.width, dtype=torch.float64)
        null[[start + size for start, size in zip(starts, sizes, strict=True)]] = 1.0
        self.register_buffer("owner", torch.tensor(owner, dtype=torch.long), persistent=False)
        self.register_buffer("null", null, persistent=False)
        seldom = torch.ones(len(self.parents), dtype=torch.bool)
        self.register_buffer("seldom", seldom, persistent=False)

    @property
    def flags(self) -> Tensor:
        """Which features are missing flags, shape (d,)."""
        return self.null > 0

    @property
    def unlearned(self) -> Tensor:
        """Which features are flags of parents seldom missing in training, shape (d,)."""
        return self.flags & self.seldom[self.owner]

    def prepare(self, parents: dict[str, Tensor]) -> None:
        """Fit the scales of continuous parents, and note which parents are seldom missing."""
        for i, parent in enumerate(self.parents):
            share = self._column(parents, parent).isnan().double().mean().item()
            self.seldom[i] = not share >= _SELDOM
        scales = zip(self.scores, self.standards, self.continuous, strict=True)
        for score, standard, (i, _) in scales:
            parent = self.parents[i]
            score.fit(self._column(parents, parent), parent.resolution)
            standard.fit(self._column(parents, parent))

    def forward(self, parents: dict[str, Tensor]) -> Tensor:
        """Return features, shape (n, d); (1, 0) without parents, which broadcasts.

        Args:
            parents: Columns, each of shape (n,), NaN where missing. Further columns are ignored.

        Raises:
            MechanismError: If a parent's column is absent, infinite, or holds a value that is no
                level.
        """
        if not self.parents:
            return torch.zeros(1, 0, dtype=torch.float64)
        columns = [self._column(parents, parent) for parent in self.parents]
        features = torch.zeros(len(columns[0]), self.width, dtype=torch.float64)
        # Numbers: standardised, 0 where missing, and the flag.
        for standard, (i, start) in zip(self.standards, self.continuous, strict=True):
            missing = columns[i].isnan()
            if columns[i].isinf().any():
                raise MechanismError(f"parent {self.parents[i].name!r} is infinite in some rows")
            features[:, start] = standard(columns[i].nan_to_num()).masked_fill(missing, 0.0)
            features[:, start + 1] = missing
        # Levels: one position per parent is 1; all parents in one call.
        if self.discrete:
            hot = [self._hot(columns[i], self.parents[i], start) for i, start in self.discrete]
            features.scatter_(1, torch.stack(hot, 1), 1.0)
        return features

    def drop(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Hide parents at random, so that p(x | observed parents) is learned for any subset.

        A parent that is often missing in training is not hidden: its own missing values suffice.

        Args:
            features: Encoded parents, shape (n, d).
            generator: The source of randomness.
        """
        if not self.parents:
            return features
        shape = (len(features), len(self.parents))
        hide = (torch.rand(shape, generator=generator) < self.dropout) & self.seldom
        return torch.where(hide[:, self.owner], self.null, features)

    def _column(self, parents: dict[str, Tensor], parent: Variable) -> Tensor:
        if parent.name not in parents:
            raise MechanismError(f"no column for parent {parent.name!r}; add it to the table")
        return parents[parent.name]

    def _hot(self, column: Tensor, parent: Variable, start: int) -> Tensor:
        """Return the position of the feature that is 1: the level's, or the missing flag's."""
        k = len(parent.levels)
        # Missing values get the position after the last level, which is the flag's.
        code = column.nan_to_num(nan=k)
        place = code.long()
        # A code equal to k would look like the flag.
        is_bad = (place != code) | (place < 0) | (place > k) | (column == k)
        if is_bad.any():
            first = column[is_bad][0].item()
            raise MechanismError(
                f"parent {parent.name!r}: {first:g} is not a level; "
                f"use positions 0 to {k - 1} of {list(parent.levels)}"
            )
        return place + start
