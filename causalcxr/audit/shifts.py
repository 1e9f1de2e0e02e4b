"""Shifts of the population: a reweighting of records, or an intervention.

A reweighting keeps the records and changes how frequent each kind is; it involves no causal claim.
An intervention changes the records themselves: what is set, and its descendants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.groups import UNKNOWN, levels_of
from causalcxr.common.errors import AuditError, nearest
from causalcxr.graph.arguments import names_of
from causalcxr.graph.interventions import Intervention, do

__all__ = [
    "InterventionShift",
    "PopulationShift",
    "ReweightingShift",
    "acquisition",
    "demographics",
    "prevalence",
    "severity",
]

_ROUNDS, _CLOSE = 200, 1e-9


@dataclass(frozen=True)
class PopulationShift:
    """Hold how a population differs.

    Args:
        name: Name in tables.
    """

    name: str


@dataclass(frozen=True)
class InterventionShift(PopulationShift):
    """Replace every record by its twin: the twin is scored, and the twin's label counts.

    Args:
        name: Name in tables.
        action: The intervention; with a distribution it is a soft intervention.
    """

    action: Intervention = field(default_factory=do)


@dataclass(frozen=True)
class ReweightingShift(PopulationShift):
    """Weight records so that columns have other shares, or patients more findings.

    Args:
        name: Name in tables.
        shares: For each column, the share of some levels; the others keep their proportions.
        tilt: Weights are multiplied by e^tilt for each positive finding, within each label.
        findings: The columns that count as findings.
    """

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tilt: float = 0.0
    findings: tuple[str, ...] = ()

    def weights(self, table: pd.DataFrame, labels: np.ndarray, positive: str) -> np.ndarray:
        """Return the weight of each record, (n,), with a mean of 1.

        Shares of several columns are met by raking: of all weights that give these shares, the
        nearest to equal ones in Kullback-Leibler divergence.

        Args:
            table: The columns.
            labels: 0, 1 or NaN, (n,).
            positive: The level of a finding that counts as positive.

        Raises:
            AuditError: If a column or level has no record, or the shares cannot be met together.
        """
        weights = np.ones(len(table))
        if self.tilt:
            count = np.sum(
                [(table[name] == positive).to_numpy() for name in self.findings], axis=0
            )
            for label in (0, 1):
                rows = labels == label
                if rows.any():
                    # Within each label, so that the prevalence stays; the greatest count cancels
                    # in the mean.
                    grown = np.exp(self.tilt * (count[rows] - count[rows].max()))
                    weights[rows] = grown / grown.mean()
        # Raking: meet the shares of one column after the other, until nothing changes.
        margins = [self._margin(table, name, shares) for name, shares in self.shares.items()]
        for _ in range(_ROUNDS):
            before = weights
            for codes, target in margins:
                now = np.bincount(codes, weights, minlength=len(target)) / weights.sum()
                # A level that no weighted record has is left at 0.
                factor = np.divide(target, now, out=np.zeros(len(target)), where=now > 0)
                weights = weights * factor[codes]
            if np.abs(weights - before).max() < _CLOSE:
                return weights / weights.mean()
        raise AuditError(f"shift {self.name!r}: no weights give all these shares; relax one")

    def _margin(
        self, table: pd.DataFrame, name: str, shares: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the level of each row, and the target share of each level."""
        if name not in table:
            raise AuditError(
                f"shift {self.name!r}: there is no column {name!r}"
                f"{nearest(name, map(str, table.columns))}"
            )
        levels = levels_of(table[name])
        codes, names = np.asarray(levels.codes), list(levels.categories)
        if absent := [level for level in shares if level not in names]:
            raise AuditError(
                f"shift {self.name!r}: no record has {name}={absent[0]}; levels are "
                f"{', '.join(v for v in names if v != UNKNOWN)}"
            )
        given = sum(shares.values())
        if min(shares.values()) < 0 or given > 1 + _CLOSE:
            raise AuditError(
                f"shift {self.name!r}: the shares of {name} sum to {given:g}, not to 1"
            )
        # Levels without a given share divide the rest in their present proportions.
        now = np.bincount(codes, minlength=len(names)) / len(codes)
        others = np.array([level not in shares for level in names])
        target = np.array([shares.get(level, 0.0) for level in names])
        rest = now[others].sum()
        if rest > 0:
            target[others] = now[others] / rest * max(0.0, 1 - given)
        elif given < 1 - _CLOSE:
            raise AuditError(
                f"shift {self.name!r}: the shares of {name} sum to {given:g}, not to 1"
            )
        return codes, target


def prevalence(label: str, share: float, level: str = "P") -> ReweightingShift:
    """Return a population in which a label has another share.

    Example:
        >>> prevalence("Edema", 0.4).name
        'prevalence of Edema=P 40 %'
    """
    return ReweightingShift(
        f"prevalence of {label}={level} {share:.0%}".replace("%", " %"), {label: {level: share}}
    )


def demographics(**shares: Mapping[str, float]) -> ReweightingShift:
    """Return a population with other shares of some columns.

    Example:
        >>> demographics(Sex={"F": 0.8}).name
        'Sex: F 80 %'
    """
    words = (
        f"{name}: "
        + ", ".join(f"{level} {share:.0%}".replace("%", " %") for level, share in levels.items())
        for name, levels in shares.items()
    )
    return ReweightingShift("; ".join(words), dict(shares))


def acquisition(action: Mapping[str, Any] | None = None, /, **values: Any) -> InterventionShift:
    """Return a population whose radiographs are acquired differently: an intervention.

    Example:
        >>> acquisition(view="AP").name
        'do(view=AP)'
    """
    intervention = do(action, **values)
    return InterventionShift(intervention.describe(), intervention)


def severity(tilt: float, findings: str | Iterable[str]) -> ReweightingShift:
    """Return a population whose patients have more findings (fewer if tilt is negative).

    Example:
        >>> severity(0.5, ["Edema", "Pneumonia"]).name
        'e^0.5 for each positive finding'
    """
    return ReweightingShift(f"e^{tilt:g} for each positive finding", {}, tilt, names_of(findings))
