"""What the tests of a model's equations found, judged as one family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalcxr.check_page import Panel, page
from causalcxr.goodness import benjamini_hochberg
from causalcxr.mechanism_spec import FrozenDict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """What the tests of a model's equations found; see `causalcxr.checks.check`.

    Args:
        rows: The number of records looked at.
        where: Which records they are, in words.
        alpha: The false discovery rate.
        least: The smallest effect that counts as a failure.
        untested: The variables that could not be tested, and why.
    """

    rows: int
    where: str
    alpha: float
    least: float
    untested: Mapping[str, str]
    _tests: pd.DataFrame = field(repr=False)
    _likelihood: pd.DataFrame = field(repr=False)
    _panels: Mapping[str, Panel] = field(repr=False)

    @classmethod
    def of(
        cls,
        found: Sequence[tuple[list[dict], dict, Panel]],
        untested: Mapping[str, str],
        rows: int,
        where: str,
        *,
        alpha: float,
        least: float,
    ) -> "Check":
        """Judge all tests together.

        Args:
            found: Of each equation: its tests, its likelihood and what is drawn.
            untested: The variables that could not be tested, and why.
            rows: The number of records.
            where: Which records.
            alpha: The false discovery rate.
            least: The smallest effect that counts.
        """
        names = ["variable", "test", "against", "n", "effective", "effect", "p"]
        tests = pd.DataFrame([row for part in found for row in part[0]], columns=[*names, "told"])
        q = benjamini_hochberg(tests["p"].to_numpy(dtype=np.float64))
        tests.insert(7, "q", q)
        tests.insert(8, "failed", (q <= alpha) & (tests["effect"].to_numpy() >= least))
        columns = ["variable", "n", "log_prob", "marginal", "gain", "error"]
        likelihood = pd.DataFrame([part[1] for part in found], columns=columns)
        panels = FrozenDict({part[1]["variable"]: part[2] for part in found})
        told = FrozenDict(untested)
        return cls(
            rows, where, alpha, least, told, tests, likelihood.set_index("variable"), panels
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row a test: variable, test, against, n, effective, effect, p, q, failed, told."""
        return self._tests.copy()

    @property
    def likelihood(self) -> pd.DataFrame:
        """Per variable: n, mean log-probability, the marginal's, the gain and its error, nats."""
        return self._likelihood.copy()

    @property
    def family(self) -> int:
        """The number of tests that the false discovery rate is kept over."""
        return len(self._tests)

    @property
    def failed(self) -> dict[str, tuple[str, ...]]:
        """The variables whose equation is wrong, the strongest reason first."""
        bad = self._tests[self._tests["failed"]].sort_values(["q", "effect"], kind="stable")
        return {name: tuple(part["told"]) for name, part in bad.groupby("variable", sort=False)}

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw every equation on one page: ranks, and calibration or quantiles.

        Args:
            path: A file to write the picture to, PNG.
        """
        failed = self.failed
        panels = {name: (panel, failed.get(name, ())) for name, panel in self._panels.items()}
        return page(panels, str(self).splitlines()[0], path)

    def __str__(self) -> str:
        names = self._tests["variable"].nunique()
        failed = self.failed
        head = f"{len(failed)} of {names} equations fail on {self.rows:,} records ({self.where})"
        rule = f"{self.family} tests, false discovery rate {self.alpha:g}, least {self.least:g}"
        lines = [f"{head}; {rule}"]
        lines += [f"  {name}: {'; '.join(why)}" for name, why in failed.items()]
        return "\n".join(lines)
