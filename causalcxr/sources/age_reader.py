"""Ages as completed years, in the notations of published tables and DICOM files."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.policy import Policy
from causalcxr.sources.source_rows import Rows

__all__ = ["OLDEST", "AgeReader", "age", "plausible_ages"]

OLDEST = 105  # years; older ages are errors or codes, the older release of NIH has up to 414

_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_NUMBER = re.compile(r"(\d{1,4})(?:\.(\d+))?([YMWD]?)")
_BIN = re.compile(r"[\[(]?(\d{1,3})\s*(?:-|–|to|,)\s*(\d{1,3})[\])]?(?: years?)?")
_OPEN = re.compile(r"(\d{1,3})\s*(?:or more|or older|and over|\+)|>=?\s*(\d{1,3})")
_REMOVED = re.compile(r"0+Y")


class _Age(NamedTuple):
    """One distinct text, read: its years, and in which notation it is written."""

    years: float = np.nan
    unread: bool = False
    suffixed: bool = False
    binned: bool = False
    open: bool = False


class AgeReader:
    """Read an age as completed years from the texts of a column.

    It reads `63`, `63.0`, `060Y`, `003M`, `012D`, bins (`60-64`), and `85 or more`.
    De-identification writes `000Y` for an age that it removed, so it is missing; DICOM gives the
    age of a newborn in days, weeks or months: `000D` is one.

    Args:
        column: The column.
        bins: The width of bins, in years, if plain numbers are the lower ends of bins.
        open_from: The age from which on the source writes one number for all older patients.
        adults: Whether the source holds adults alone, so that an age of 0 is missing.

    Example:
        >>> ages = pd.DataFrame({"age": pd.Categorical(["060Y", "155", "85 or more"])})
        >>> ledger = Ledger(np.array(["a", "b", "c"]))
        >>> AgeReader("age")(Rows(ages, [], []), Policy(), ledger).tolist()
        [60.0, nan, 85.0]
        >>> [rule.name for rule in ledger.rules]
        ['age-too-old', 'age-suffixed', 'age-open']
    """

    def __init__(
        self, column: str, bins: int = 0, open_from: int | None = None, adults: bool = False
    ) -> None:
        self.column, self.bins, self.open_from, self.adults = column, bins, open_from, adults

    def __call__(self, rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
        """Return the ages, shape (n,), float64, NaN where missing."""
        # Read each distinct text once.
        _, texts = rows.distinct(self.column)
        table = pd.DataFrame(
            [self._read(text.strip(), policy) for text in texts], columns=_Age._fields
        )
        missing = _Age(unread=True)._asdict()
        columns = {
            name: rows.map_texts(self.column, table[name].to_numpy(), missing[name])
            for name in table
        }
        is_removed = [bool(_REMOVED.fullmatch(text.strip())) for text in texts]
        removed = rows.map_texts(self.column, np.array(is_removed, dtype=bool), False)
        why = "ages written as 000Y, which stands for a removed age, are missing"
        ledger.note("age-dummy", why, removed)
        columns["years"][removed] = np.nan
        years = plausible_ages(columns["years"], ledger, self.adults)
        _note_notations(columns, years, rows.blank(self.column), policy, ledger)
        return years

    def _read(self, text: str, policy: Policy) -> _Age:
        if match := _OPEN.fullmatch(text):
            return _open_age(float(match[1] or match[2]), policy)
        if match := _BIN.fullmatch(text):
            low, high = int(match[1]), int(match[2])
            # [60, 65) and 60-64 both hold five years; [60, 65] and 60-65 cannot be told apart.
            return _binned_age(low, high - (text.endswith(")") and high > low), policy)
        match = _NUMBER.fullmatch(text)
        if not match:
            return _Age(unread=True)
        # The small excess keeps 12 months a year, and 24 months two.
        years = float(np.floor(float(f"{match[1]}.{match[2] or 0}") * _YEARS[match[3]] + 1e-9))
        # In some data sets this age stands for all higher ones.
        if self.open_from is not None and self.open_from <= years <= OLDEST:
            return _open_age(years, policy)
        if self.bins:
            return _binned_age(int(years), int(years) + self.bins - 1, policy)
        return _Age(years, suffixed=bool(match[3]))


def age(column: str, **options: int | bool | None) -> AgeReader:
    """Read an age; see `AgeReader`."""
    return AgeReader(column, **options)


def plausible_ages(years: np.ndarray, ledger: Ledger, adults: bool = False) -> np.ndarray:
    """Return ages with the impossible ones missing: above 105, below 0, and 0 among adults."""
    years = years.copy()
    ledger.note("age-too-old", f"ages above {OLDEST} years are missing", years > OLDEST)
    ledger.note("age-negative", "ages below 0 are missing", years < 0)
    impossible = (years > OLDEST) | (years < 0)
    if adults:
        ledger.note("age-zero", "an age of 0, in a source of adults, is missing", years == 0)
        impossible |= years == 0
    years[impossible] = np.nan
    return years


def _open_age(years: float, policy: Policy) -> _Age:
    return _Age(years if policy.age_open == "lower" else np.nan, open=True)


def _binned_age(low: int, high: int, policy: Policy) -> _Age:
    years = {"middle": float((low + high) // 2), "lower": float(low)}
    return _Age(years.get(policy.age_bins, np.nan), binned=True)


def _note_notations(
    columns: dict[str, np.ndarray],
    years: np.ndarray,
    blank: np.ndarray,
    policy: Policy,
    ledger: Ledger,
) -> None:
    """Record how many ages are blank, unreadable, or written in a notation of their own."""
    place = {"middle": "the middle of the bin", "lower": "the lower end of the bin"}
    binned = place.get(policy.age_bins, "missing")
    opened = "that number" if policy.age_open == "lower" else "missing"
    for name, why, where in (
        ("age-blank", "age is not recorded", blank),
        ("age-unread", "ages that cannot be read are missing", columns["unread"] & ~blank),
        (
            "age-suffixed",
            "ages written as 060Y, 003M or 012D are completed years",
            columns["suffixed"] & ~np.isnan(years),
        ),
        ("age-binned", f"ages given as bins are {binned}", columns["binned"]),
        ("age-open", f"ages given as a number or more are {opened}", columns["open"]),
    ):
        ledger.note(name, why, where)
