"""Readings: how one variable is read from a column, distinct value by distinct value.

Each returns a function of (rows, policy, ledger), as a `Source` takes it. What cannot be read is
missing, and is counted; nobody is made female, or young, or healthy by default.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.label_maps import bundled
from causalcxr.sources.policy import BLANK, FINDINGS, UNCERTAIN, UNLISTED, N, P, Policy
from causalcxr.sources.source_rows import EMPTY, Rows

__all__ = [
    "FEMALE_MALE",
    "OLDEST",
    "Years",
    "age",
    "as_levels",
    "by_file",
    "levels",
    "listed",
    "marked",
    "plausible",
    "sex",
    "split",
    "view",
]

OLDEST = 105  # years; older ages are errors or codes, the older release of NIH has up to 414
FEMALE_MALE = {"F": "F", "M": "M", "FEMALE": "F", "MALE": "M"}

_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_NUMBER = re.compile(r"(\d{1,4})(?:\.(\d+))?([YMWD]?)")
_BIN = re.compile(r"[\[(]?(\d{1,3})\s*(?:-|–|to|,)\s*(\d{1,3})[\])]?(?: years?)?")
_OPEN = re.compile(r"(\d{1,3})\s*(?:or more|or older|and over|\+)|>=?\s*(\d{1,3})")
_DUMMY = re.compile(r"0+Y")

Reading = Callable[[Rows, Policy, Ledger], np.ndarray | pd.Categorical]


def levels(
    column: str,
    meaning: Mapping[str, str],
    what: str,
    name: str,
    known: Sequence[str] | None = None,
) -> Reading:
    """Read levels from a column of codes; whatever else it holds is missing.

    Args:
        column: The column.
        meaning: The level that each code stands for; case and surrounding spaces do not count.
        what: What it is, for the report: "sex".
        name: A word for the rule that counts what is missing.
        known: The levels, in order; by default those of `meaning`.
    """
    order = list(known or dict.fromkeys(meaning.values()))
    by_code = {code.upper(): level for code, level in meaning.items()}

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
        _, texts = rows.distinct(column)
        found = [by_code.get(text.strip().upper()) for text in texts]
        values = as_levels(rows, column, found, order)
        ledger.note(name, f"{what} other than {', '.join(order)} is missing", values.codes < 0)
        return values

    return read


def as_levels(
    rows: Rows, column: str, found: Sequence[str | None], order: Sequence[str]
) -> pd.Categorical:
    """Return the level that each distinct text of a column stands for, row by row."""
    places = np.array([-1 if level is None else order.index(level) for level in found], np.int8)
    codes = rows.looked_up(column, places, -1)
    return pd.Categorical.from_codes(codes, pd.Index(order, dtype=object))


def sex(column: str) -> Reading:
    """Read F and M; O, U, Unknown and blank are missing."""
    return levels(column, FEMALE_MALE, "sex", "sex-other", ("F", "M"))


def view(column: str, meaning: Mapping[str, str]) -> Reading:
    """Read AP, PA and LATERAL; other projections are missing."""
    return levels(column, meaning, "view", "view-other", ("AP", "PA", "LATERAL"))


def split(column: str) -> Reading:
    """Read train, val and test, however a source spells them.

    Raises:
        CohortError: If a row has another word.
    """
    spelled = {
        "train": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
        "test": "test",
    }  # fmt: skip

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
        _, texts = rows.distinct(column)
        found = np.array([spelled.get(text.strip().lower(), "") for text in texts], dtype=object)
        splits = rows.looked_up(column, found, "")
        rows.refuse(column, splits == "", f"is no split; allowed: {', '.join(spelled)}")
        return splits

    return read


def by_file(parts: Mapping[str, str]) -> Reading:
    """Read the split off the name of the file that a row stands in: {"train": "train", ...}."""

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
        _, names = rows.distinct("file")
        found = [next((s for part, s in parts.items() if part in name), "") for name in names]
        return rows.looked_up("file", np.array(found, dtype=object), "")

    return read


class Years:
    """Read an age as completed years from the texts of a column.

    Understood are `63`, `63.0`, `060Y`, `003M`, `012D`, bins (`60-64`), and `85 or more`. De-
    identification writes `000Y` for an age that it removed, so it is missing; DICOM gives the age
    of a newborn in days, weeks or months: `000D` is one.

    Args:
        column: The column.
        bins: The width of bins, in years, where plain numbers are the lower ends of bins.
        open_from: From which age on the source writes one number for everybody older.
        adults: Whether the source holds adults alone, so that an age of 0 is a blank.

    Example:
        >>> ages = pd.DataFrame({"age": pd.Categorical(["060Y", "155", "85 or more"])})
        >>> ledger = Ledger(np.array(["a", "b", "c"]))
        >>> Years("age")(Rows(ages, [], []), Policy(), ledger).tolist()
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
        _, texts = rows.distinct(self.column)
        table = pd.DataFrame(
            [self._read(text.strip(), policy) for text in texts],
            columns=["years", "unread", "suffixed", "binned", "open"],
        )
        columns = {
            name: rows.looked_up(self.column, table[name].to_numpy(), missing)
            for name, missing in zip(table, (np.nan, True, False, False, False), strict=True)
        }
        dummy = np.array([bool(_DUMMY.fullmatch(text.strip())) for text in texts], dtype=bool)
        dummy = rows.looked_up(self.column, dummy, False)
        why = "ages written as 000Y, which stands for a removed age, are missing"
        ledger.note("age-dummy", why, dummy)
        columns["years"][dummy] = np.nan
        years = plausible(columns["years"], ledger, self.adults)
        known = ~np.isnan(years)
        blank = rows.blank(self.column)
        ledger.note("age-blank", "age is not recorded", blank)
        why = "ages that cannot be read are missing"
        ledger.note("age-unread", why, columns["unread"] & ~blank)
        why = "ages written as 060Y, 003M or 012D are completed years"
        ledger.note("age-suffixed", why, columns["suffixed"] & known)
        told = {"middle": "the middle", "lower": "the lower end"}
        why = told.get(policy.age_bins)
        why = (
            f"ages given as bins are {why} of the bin" if why else "ages given as bins are missing"
        )
        ledger.note("age-binned", why, columns["binned"])
        lower = policy.age_open == "lower"
        why = "ages given as a number or more are " + ("that number" if lower else "missing")
        ledger.note("age-open", why, columns["open"])
        return years

    def _read(self, text: str, policy: Policy) -> tuple[float, bool, bool, bool, bool]:
        if match := _OPEN.fullmatch(text):
            return self._opened(float(match[1] or match[2]), policy)
        if match := _BIN.fullmatch(text):
            low, high = int(match[1]), int(match[2])
            # [60, 65) and 60-64 both hold five years; [60, 65] and 60-65 cannot be told apart.
            return self._binned(low, high - (text.endswith(")") and high > low), policy)
        match = _NUMBER.fullmatch(text)
        if not match:
            return np.nan, True, False, False, False
        # The small excess keeps 12 months a year, and 24 months two.
        years = float(np.floor(float(f"{match[1]}.{match[2] or 0}") * _YEARS[match[3]] + 1e-9))
        if self.open_from is not None and self.open_from <= years <= OLDEST:
            return self._opened(years, policy)
        if self.bins:
            return self._binned(int(years), int(years) + self.bins - 1, policy)
        return years, False, bool(match[3]), False, False

    @staticmethod
    def _opened(years: float, policy: Policy) -> tuple[float, bool, bool, bool, bool]:
        return years if policy.age_open == "lower" else np.nan, False, False, False, True

    @staticmethod
    def _binned(low: int, high: int, policy: Policy) -> tuple[float, bool, bool, bool, bool]:
        years = {"middle": float((low + high) // 2), "lower": float(low)}
        return years.get(policy.age_bins, np.nan), False, False, True, False


def age(column: str, **options: int | bool | None) -> Years:
    """Read an age; see `Years`."""
    return Years(column, **options)


def plausible(years: np.ndarray, ledger: Ledger, adults: bool = False) -> np.ndarray:
    """Return ages with the impossible ones missing: above 105, below 0, and 0 among adults."""
    years = years.copy()
    ledger.note("age-too-old", f"ages above {OLDEST} years are missing", years > OLDEST)
    ledger.note("age-negative", "ages below 0 are missing", years < 0)
    wrong = (years > OLDEST) | (years < 0)
    if adults:
        ledger.note("age-zero", "an age of 0, in a source of adults, is missing", years == 0)
        wrong |= years == 0
    years[wrong] = np.nan
    return years


def marked(
    columns: Mapping[str, str] | None = None,
    codes: Mapping[str, int] | None = None,
    study: Callable[[Rows], np.ndarray] | None = None,
) -> Callable[[Rows, Policy, Ledger], dict[str, np.ndarray]]:
    """Read findings from a column each, with codes as CheXpert has them: 1, 0, -1 and blank.

    Args:
        columns: The column of each finding; by default columns named as the findings.
        codes: What other codes say, as marks of the policy.
        study: The study of each record, shape (n,), as texts, "" where it is not known: labels of
            one report, so that records of one study whose labels differ are counted.
    """
    given = columns or {name: name for name in FINDINGS}
    meaning = codes or {"1": P, "0": N, "-1": UNCERTAIN}

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
        marks = {}
        for finding, column in given.items():
            _, texts = rows.distinct(column)
            found = np.array([_mark(text, meaning) for text in texts], dtype=np.int8)
            marks[finding] = rows.looked_up(column, found, BLANK)
            rule = f"is no label; allowed: {', '.join(meaning)} and blank"
            rows.refuse(column, marks[finding] == _WRONG, rule)
        if study is not None:
            why = "labels that differ between images of one study are kept as they are written"
            ledger.note("labels-differ", why, _differ(marks, study(rows)), "noted")
        return marks

    return read


_WRONG = 99


def _differ(marks: Mapping[str, np.ndarray], studies: np.ndarray) -> np.ndarray:
    """Return which records, shape (n,), have other labels than an image of the same study."""
    pattern = np.zeros(len(studies), dtype=np.int64)
    for mark in marks.values():
        pattern = 8 * pattern + mark  # marks are below 8, and 14 of them fit into 64 bits
    codes, distinct = pd.factorize(studies)
    low = np.full(len(distinct), np.iinfo(np.int64).max)
    high = np.full(len(distinct), -1, dtype=np.int64)
    np.minimum.at(low, codes, pattern)
    np.maximum.at(high, codes, pattern)
    return (low < high)[codes] & (studies != "")


def _mark(text: str, meaning: Mapping[str, int]) -> int:
    text = text.strip()
    if text in EMPTY:
        return meaning.get("", BLANK)
    return meaning.get(re.sub(r"\.0*$", "", text), _WRONG)


def listed(
    column: str, separate: Callable[[str], list[str]], words: str, *, closed: bool = False
) -> Callable[[Rows, Policy, Ledger], dict[str, np.ndarray]]:
    """Read findings from a column that lists what is there.

    Args:
        column: The column.
        separate: How a text becomes words; each distinct text is separated once.
        words: The bundled map of the words.
        closed: Whether a word that the map does not have is an error; else it is counted.
    """

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
        known = bundled(words)
        _, texts = rows.distinct(column)
        lists = [separate(text) for text in texts]
        marks, unknown = known.marks(lists)
        strange = rows.looked_up(column, np.array([bool(word) for word in unknown]), False)
        first = next((word for word in unknown if word), "")
        if closed:
            rule = f"holds {first[:60]!r}, not a label of {known.source}{known.nearest_to(first)}"
            rows.refuse(column, strange, rule)
        why = (
            f"a label that the map does not have, such as {first[:60]!r}, may be any finding: "
            "those that are not listed beside it are missing"
        )
        ledger.note("label-unknown", why, strange)
        open_ended = np.array([bool(word) for word in unknown], dtype=bool)
        for mark in marks.values():
            mark[(mark == UNLISTED) & open_ended] = BLANK
        aside = np.array([known.sets_aside(words) for words in lists], dtype=bool)
        why = "the authors set the image aside, so its labels say nothing"
        ledger.note("image-set-aside", why, rows.looked_up(column, aside, False))
        return {name: rows.looked_up(column, mark, BLANK) for name, mark in marks.items()}

    return read
