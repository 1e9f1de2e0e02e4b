"""Policy: decisions for labels that a source leaves blank, uncertain or contradictory."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError, nearest
from causalcxr.sources.harmonised import Ledger

__all__ = [
    "ABNORMAL",
    "BLANK",
    "CXR7",
    "FINDINGS",
    "PATHOLOGIES",
    "UNCERTAIN",
    "UNLISTED",
    "N",
    "P",
    "Policy",
]

PATHOLOGIES = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum",
    "Fracture", "Lung Lesion", "Lung Opacity", "Pleural Effusion", "Pleural Other", "Pneumonia",
    "Pneumothorax",
)  # fmt: skip
FINDINGS = (*PATHOLOGIES, "No Finding", "Support Devices")

# The marks of a finding. `BLANK`: the source says nothing. `UNLISTED`: the source lists findings
# that are present, and this one is not listed. `ABNORMAL`: of No Finding alone, something outside
# the 14 findings is listed.
N, P, UNCERTAIN, BLANK, UNLISTED, ABNORMAL = range(6)

_LABELS = ("raw", "u_zeros", "u_ones", "u_ignore")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "uncertain": _LABELS,
    "blank": _LABELS,
    "unlisted": ("N", "U"),
    "implied": ("fill", "leave"),
    "race_conflict": ("missing", "majority"),
    "age_bins": ("middle", "lower", "missing"),
    "age_open": ("lower", "missing"),
    "views_guessed": ("keep", "missing"),
    "laterals": ("keep", "drop"),
    "duplicates": ("refuse", "first"),
    "split_conflict": ("refuse", "strictest", "drop"),
    "readers": ("majority", "any", "unanimous"),
}


@dataclass(frozen=True)
class Policy:
    """Decide what a source leaves open.

    Every decision is a named rule; the number of records that it affects is reported and kept in
    the cohort's manifest. A policy never changes a value that the source gives.

    Args:
        uncertain: A finding that the source calls uncertain (-1): `raw` keeps it as `U`, which a
            graph reads as missing unless it declares that level; `u_zeros` makes it N, `u_ones`
            P, `u_ignore` missing.
        blank: A finding without a label: `raw` and `u_ignore` leave it missing, `u_zeros` makes
            it N, `u_ones` P (which gives an upper bound of the prevalence).
        unlisted: A finding that is not on the list of a source that lists present findings
            (ChestX-ray14, PadChest, VinDr-CXR): "N", or "U" for missing.
        implied: "fill" applies what labels imply: No Finding makes every pathology without a
            label N, and a present pathology makes No Finding N. "leave" keeps labels as written.
        race_conflict: The race of a patient whose rows disagree: "missing", or the "majority".
        age_bins: An age given as a bin of years: its "middle", its "lower" end, or "missing".
        age_open: An age given as "85 or more": its "lower" end, or "missing".
        views_guessed: Views that the source itself guessed: "keep" or "missing".
        laterals: "keep" or "drop" the records whose view is LATERAL.
        duplicates: Records with one id and different content: "refuse", or keep the "first".
            Of records that are identical in all columns read, one is always kept.
        split_conflict: Patients in two splits: "refuse", "drop" them, or put all their records
            into the "strictest" of their splits (test before val before train).
        readers: The three readers of VinDr-CXR: "majority"; "any"; or "unanimous", which calls a
            finding uncertain if they disagree.
        labels: The labels to use if a source offers several: a name that it knows, or a file.
            By default the source's own choice.

    Raises:
        CohortError: If a choice is not among those above.

    Example:
        >>> Policy(uncertain="u_one")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: policy: uncertain='u_one'; one of raw, u_zeros, \
u_ones, u_ignore; did you mean 'u_ones'?
        >>> Policy.parse({"labels": "negbio"}).labels
        'negbio'
    """

    uncertain: str = "raw"
    blank: str = "raw"
    unlisted: str = "N"
    implied: str = "fill"
    race_conflict: str = "missing"
    age_bins: str = "middle"
    age_open: str = "lower"
    views_guessed: str = "keep"
    laterals: str = "keep"
    duplicates: str = "refuse"
    split_conflict: str = "refuse"
    readers: str = "majority"
    labels: str = ""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                hint = nearest(str(value)[:40], choices)
                raise CohortError(
                    f"policy: {name}={str(value)[:40]!r}; one of {', '.join(choices)}{hint}"
                )

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Policy":
        """Return a policy from plain values, as read from a file; the rest are defaults.

        Raises:
            CohortError: If a decision or its choice does not exist.
        """
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                hint = nearest(str(name), names) or f"; there are {', '.join(names)}"
                raise CohortError(f"policy: no decision {str(name)[:40]!r}{hint}")
        return cls(**{name: str(value) for name, value in given.items()})

    def as_dict(self) -> dict[str, str]:
        """Return every decision by its name, for manifests."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_(self, **changes: str) -> "Policy":
        """Return the policy with some decisions changed."""
        return replace(self, **changes)

    def decide(self, marks: Mapping[str, np.ndarray], ledger: Ledger) -> dict[str, pd.Categorical]:
        """Return findings as categories: N, P, U (uncertain, kept) or missing.

        Args:
            marks: The marks of each finding, shape (n,), int8: `N`, `P`, `UNCERTAIN`, `BLANK`,
                `UNLISTED`, or, of No Finding, `ABNORMAL`.
            ledger: Records how many records each decision affects.
        """
        marks = {name: mark.copy() for name, mark in marks.items()}
        self._note_open(marks, ledger)
        if self.implied == "fill":
            _fill(marks, ledger)
        abnormal = 0 if "fill" in self.implied or self.unlisted == "N" else -1
        levels = np.array([0, 1, *map(self._level, _OPEN), abnormal], dtype=np.int8)
        return {
            name: pd.Categorical.from_codes(levels[mark], _LEVELS) for name, mark in marks.items()
        }

    def _level(self, what: str) -> int:
        choice = getattr(self, what)
        if what == "uncertain" and choice == "raw":
            return 2
        return {"u_zeros": 0, "N": 0, "u_ones": 1}.get(choice, -1)

    def _note_open(self, marks: Mapping[str, np.ndarray], ledger: Ledger) -> None:
        """Record how many records have a finding that the policy decides."""
        for code, what in enumerate(_OPEN, 2):
            where = np.logical_or.reduce([mark == code for mark in marks.values()])
            ledger.note(f"labels-{what}", _WHY[what][getattr(self, what)], where)


_OPEN = ("uncertain", "blank", "unlisted")
_LEVELS = pd.Index(["N", "P", "U"], dtype=object)
_WHY = {
    what: {
        "raw": f"{finding} is {kept}", "u_ignore": f"{finding} is missing",
        "u_zeros": f"{finding} is N", "u_ones": f"{finding} is P", "N": f"{finding} is N",
        "U": f"{finding} is missing",
    }
    for what, finding, kept in (
        ("uncertain", "a finding that is called uncertain", "kept as U"),
        ("blank", "a finding without a label", "missing"),
        ("unlisted", "labels are positive-only: a finding that is not listed", "missing"),
    )
}  # fmt: skip


def _fill(marks: dict[str, np.ndarray], ledger: Ledger) -> None:
    """Fill in what labels imply, where there is no label."""
    no_finding = marks.get("No Finding")
    if no_finding is None:
        return
    # No Finding is P: findings without a label are N, devices excepted.
    healthy, ill = no_finding == P, np.zeros(len(ledger), dtype=bool)
    filled = np.zeros(len(ledger), dtype=bool)
    for name, mark in marks.items():
        if name not in ("No Finding", "Support Devices"):
            open_ = healthy & (mark >= BLANK)
            mark[open_] = N
            filled |= open_
        if name in PATHOLOGIES:
            ill |= mark == P
    # A pathology is P: No Finding without a label is N.
    open_ = ill & ((no_finding == BLANK) | (no_finding == UNLISTED))
    no_finding[open_] = N
    for name, why, where in (
        ("implied-absent", "No Finding is P: pathologies without a label are N", filled),
        ("implied-ill", "a pathology is P: No Finding, which has no label, is N", open_),
        ("abnormal-other", _OTHER, (no_finding == ABNORMAL) & ~ill),
    ):
        ledger.note(name, why, where)
    ledger.note(
        "no-finding-denied", "No Finding is P although a finding is P", healthy & ill, "noted"
    )


_OTHER = "No Finding is N although no finding of the graph is P: something else is listed"

# The choices of CXR7-1M as far as they are known: labels as written, nothing filled in.
CXR7 = Policy(unlisted="U", implied="leave", age_bins="lower")
