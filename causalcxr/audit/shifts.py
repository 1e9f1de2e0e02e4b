"""Shifts: how the population may differ, as a reweighting of records or as an intervention.

A reweighting keeps the records and changes how many there are of each kind: it says nothing about
causes. An intervention changes the records themselves, downstream of what is set.
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
    """Say how a population differs.

    Args:
        name: What it is called.
    """

    name: str


@dataclass(frozen=True)
class InterventionShift(PopulationShift):
    """Intervene on every record: its twin is scored, and the twin's label counts.

    Args:
        name: What it is called.
        action: What is done; a distribution makes a soft intervention.
    """

    action: Intervention = field(default_factory=do)


@dataclass(frozen=True)
class ReweightingShift(PopulationShift):
    """Weigh records, so that some columns have other shares, or the ill are more severely ill.

    Args:
        name: What it is called.
        shares: For each column, the share of each level; the others share the rest as they do.
        tilt: Weights grow by e^tilt for each positive finding, within each label.
        findings: The columns that count as findings.
    """

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tilt: float = 0.0
    findings: tuple[str, ...] = ()

    def weights(self, table: pd.DataFrame, labels: np.ndarray, positive: str) -> np.ndarray:
        """Return how much each record weighs, (n,), with a mean of 1.

        Shares of several columns are met by raking: the weights nearest to equal ones, in
        Kullback-Leibler divergence, that have these shares.

        Args:
            table: The columns.
            labels: 0, 1 or NaN, (n,).
            positive: The level of a finding that counts.

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
                    grown = np.exp(self.tilt * (count[rows] - count[rows].max()))
                    weights[rows] = grown / grown.mean()
        wanted = [self._margin(table, name, shares) for name, shares in self.shares.items()]
        for _ in range(_ROUNDS):
            before = weights
            for codes, target in wanted:
                now = np.bincount(codes, weights, minlength=len(target)) / weights.sum()
                factor = np.divide(target, now, out=np.zeros(len(target)), where=now > 0)
                weights = weights * factor[codes]
            if np.abs(weights - before).max() < _CLOSE:
                return weights / weights.mean()
        raise AuditError(f"shift {self.name!r}: no weights give these shares together; relax one")

    def _margin(
        self, table: pd.DataFrame, name: str, shares: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the level of each row and the share that each level shall have."""
        if name not in table:
            raise AuditError(
                f"shift {self.name!r}: no column {name!r}{nearest(name, map(str, table.columns))}"
            )
        levels = levels_of(table[name])
        codes, known = np.asarray(levels.codes), list(levels.categories)
        if absent := [level for level in shares if level not in known]:
            raise AuditError(
                f"shift {self.name!r}: no record has {name}={absent[0]}; there are "
                f"{', '.join(v for v in known if v != UNKNOWN)}"
            )
        given = sum(shares.values())
        if min(shares.values()) < 0 or given > 1 + _CLOSE:
            raise AuditError(
                f"shift {self.name!r}: the shares of {name} sum to {given:g}, not to 1"
            )
        now = np.bincount(codes, minlength=len(known)) / len(codes)
        others = np.array([level not in shares for level in known])
        target = np.array([shares.get(level, 0.0) for level in known])
        rest = now[others].sum()
        if rest > 0:
            target[others] = now[others] / rest * max(0.0, 1 - given)
        elif given < 1 - _CLOSE:
            raise AuditError(
                f"shift {self.name!r}: the shares of {name} sum to {given:g}, not to 1"
            )
        return codes, target


def prevalence(label: str, share: float, level: str = "P") -> ReweightingShift:
    """Return the population in which a label has another share.

    Example:
        >>> prevalence("Edema", 0.4).name
        'prevalence of Edema=P 40 %'
    """
    return ReweightingShift(
        f"prevalence of {label}={level} {share:.0%}".replace("%", " %"), {label: {level: share}}
    )


def demographics(**shares: Mapping[str, float]) -> ReweightingShift:
    """Return the population with other shares of some columns.

    Example:
        >>> demographics(Sex={"F": 0.8}).name
        'Sex: F 80 %'
    """
    words = (
        f"{name}: "
        + ", ".join(f"{level} {share:.0%}".replace("%", " %") for level, share in of.items())
        for name, of in shares.items()
    )
    return ReweightingShift("; ".join(words), dict(shares))


def acquisition(action: Mapping[str, Any] | None = None, /, **values: Any) -> InterventionShift:
    """Return the population that is filmed otherwise: an intervention.

    Example:
        >>> acquisition(view="AP").name
        'do(view=AP)'
    """
    made = do(action, **values)
    return InterventionShift(made.describe(), made)


def severity(tilt: float, findings: str | Iterable[str]) -> ReweightingShift:
    """Return the population in which patients have more findings (or fewer, if tilt is below 0).

    Example:
        >>> severity(0.5, ["Edema", "Pneumonia"]).name
        'e^0.5 for each positive finding'
    """
    return ReweightingShift(f"e^{tilt:g} for each positive finding", {}, tilt, names_of(findings))
