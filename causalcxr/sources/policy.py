"""Policy: what is decided where a source says nothing, says two things, or says it is not sure."""

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

# What a source can say of a finding. `BLANK`: it says nothing. `UNLISTED`: it lists what is there,
# and this is not on the list. `ABNORMAL`: of No Finding alone, it lists something else instead.
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
    """Say what is decided where a source leaves a decision to us.

    Every decision is a named rule; how many records it touched is counted, reported and kept in
    the cohort's manifest. What a source knows is never changed by a policy.

    Args:
        uncertain: A finding that the source calls uncertain (-1): `raw` keeps it as `U`, which
            every graph reads as missing unless it declares that level; `u_zeros` makes it N,
            `u_ones` P, `u_ignore` missing.
        blank: A finding of which the source says nothing; `raw` and `u_ignore` leave it missing,
            `u_zeros` makes it N, `u_ones` P (an upper bound of the prevalence, no more).
        unlisted: A finding that is not on the list of a source which lists what is there
            (ChestX-ray14, PadChest, VinDr-CXR): "N", or "U" for missing.
        implied: "fill" what labels imply: No Finding denies every pathology of which nothing is
            said, and a pathology that is there denies No Finding. "leave" keeps what is written.
        race_conflict: Of a patient whose admissions disagree: "missing", or the "majority".
        age_bins: Of an age given as a bin of years: its "middle", its "lower" end, or "missing".
        age_open: Of an age given as "85 or more": its "lower" end, or "missing".
        views_guessed: Views that the source itself guessed: "keep" or "missing".
        laterals: "keep" or "drop" the records whose view is LATERAL.
        duplicates: Records with one id and different content: "refuse", or keep the "first".
            Records that are the same in everything read are always kept once.
        split_conflict: Patients in two splits: "refuse", "drop" them, or put all their records
            into the "strictest" of their splits (test before val before train).
        readers: VinDr-CXR's three readers: "majority"; "any" one of them; "unanimous", which
            calls a finding uncertain where they disagree.
        labels: Which labels, where a source offers several; a word that it knows, or a file.
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
        """Return a policy from plain values, as a file has them; what is absent is the default.

        Raises:
            CohortError: If there is no such decision, or no such choice.
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

    def decided(
        self, marks: Mapping[str, np.ndarray], ledger: Ledger
    ) -> dict[str, pd.Categorical]:
        """Return findings as levels: N, P, U (uncertain, kept) or missing.

        Args:
            marks: What the source says of each finding, shape (n,), int8: `N`, `P`, `UNCERTAIN`,
                `BLANK`, `UNLISTED`, or, of No Finding, `ABNORMAL`.
            ledger: Where it is written down how many records each decision touched.
        """
        marks = {name: mark.copy() for name, mark in marks.items()}
        self._tell(marks, ledger)
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

    def _tell(self, marks: Mapping[str, np.ndarray], ledger: Ledger) -> None:
        """Write down how many records have a finding that the policy decides."""
        for code, what in enumerate(_OPEN, 2):
            touched = np.zeros(len(ledger), dtype=bool)
            for mark in marks.values():
                touched |= mark == code
            ledger.note(f"labels-{what}", _WHY[what][getattr(self, what)], touched)


_OPEN = ("uncertain", "blank", "unlisted")
_LEVELS = pd.Index(["N", "P", "U"], dtype=object)
_WHY = {
    what: {
        "raw": f"{said} is {kept}", "u_ignore": f"{said} is missing", "u_zeros": f"{said} is N",
        "u_ones": f"{said} is P", "N": f"{said} is N", "U": f"{said} is missing",
    }
    for what, said, kept in (
        ("uncertain", "a finding that is called uncertain", "kept as U"),
        ("blank", "a finding of which nothing is said", "missing"),
        ("unlisted", "labels are positive-only: a finding that is not listed", "missing"),
    )
}  # fmt: skip


def _fill(marks: dict[str, np.ndarray], ledger: Ledger) -> None:
    """Fill in what labels imply, where nothing is said: No Finding, and that there is one."""
    healthy = marks.get("No Finding")
    if healthy is None:
        return
    fine, ill = healthy == P, np.zeros(len(ledger), dtype=bool)
    filled = np.zeros(len(ledger), dtype=bool)
    for name, mark in marks.items():
        if name not in ("No Finding", "Support Devices"):
            unsaid = fine & (mark >= BLANK)
            mark[unsaid] = N
            filled |= unsaid
        if name in PATHOLOGIES:
            ill |= mark == P
    unsaid = ill & ((healthy == BLANK) | (healthy == UNLISTED))
    healthy[unsaid] = N
    for name, why, touched in (
        ("implied-absent", "No Finding is P: pathologies of which nothing is said are N", filled),
        ("implied-ill", "a pathology is P: No Finding, of which nothing is said, is N", unsaid),
        ("abnormal-other", _OTHER, (healthy == ABNORMAL) & ~ill),
    ):
        ledger.note(name, why, touched)
    ledger.note(
        "no-finding-denied", "No Finding is P although a finding is P", fine & ill, "noted"
    )


_OTHER = "No Finding is N although no finding of the graph is P: something else is listed"

# What is known of how CXR7-1M was made: labels as they were written, nothing filled in.
CXR7 = Policy(unlisted="U", implied="leave", age_bins="lower")
