"""Selection of records of a cohort on the command line."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError

__all__ = ["Selection", "load_cohort", "parse_spec"]

_WORDS = ("graph",)  # options of cohorts that are not numbers


@dataclass(frozen=True)
class Selection:
    """A selection of records of a cohort.

    Args:
        cohort: The cohort as on the command line, see `load_cohort`.
        where: A query, such as `Sex == 'F' and Age > 50`.
        split: train, val or test.
        limit: The maximal number of records, those with an image first; 0 for all.
    """

    cohort: str
    where: str = ""
    split: str = ""
    limit: int = 0

    def load(self) -> Cohort:
        """Return the records.

        Raises:
            CohortError: If no record is left.
        """
        everyone = load_cohort(self.cohort)
        chosen = everyone.split(self.split) if self.split else everyone
        chosen = chosen.select(self.where) if self.where else chosen
        if not len(chosen):
            selection = f"split {self.split!r}, where {self.where!r}"
            raise CohortError(
                f"no record is left of {len(everyone):,} ({selection}); change the selection"
            )
        return _first(chosen, self.limit) if self.limit else chosen


def _first(cohort: Cohort, limit: int) -> Cohort:
    if limit < 0:
        raise CohortError(f"limit {limit}: give at least 1, or 0 for all")
    if not cohort.has_images:
        return cohort.head(limit)
    return cohort.at(np.argsort(~cohort.images.available, kind="stable")[:limit])


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a cohort's name from its options.

    Raises:
        CohortError: If an option is not a whole number, except for options with words.

    Example:
        >>> parse_spec("phantom:n=500,seed=1")
        ('phantom', {'n': 500, 'seed': 1})
    """
    name, colon, rest = spec.partition(":")
    if not colon or "=" not in rest:
        return spec, {}
    options: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, value = (text.strip() for text in part.partition("="))
        is_whole = value.removeprefix("-").isdecimal()
        if not equals or not value or not (is_whole or key in _WORDS):
            raise CohortError(
                f"cohort {spec!r}: option {part!r}; write name=whole number, such as n=500"
            )
        options[key] = int(value) if is_whole else value
    return name, options


def load_cohort(spec: str) -> Cohort:
    """Read a cohort specified on the command line.

    Args:
        spec: A source or path for `Cohort.load`; options follow a colon, `phantom:n=500,seed=1`.

    Raises:
        CohortError: If it cannot be read, or its source does not have the options.
    """
    name, options = parse_spec(spec)
    if not options:
        return Cohort.load(name)
    try:
        return Cohort.load(name, **options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise CohortError(
            f"cohort {spec!r}: this source does not have all of {', '.join(options)}; phantom "
            "takes n, seed, size, graph, missing, bits, enriched, randomised, copies, "
            "confounding, shortcut, underdiagnosis, race_signal; a folder takes size"
        ) from None
