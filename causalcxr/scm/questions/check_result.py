"""The result of the tests of a model's equations, corrected as one family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from causalcxr.common.frozen_dict import FrozenDict
from causalcxr.common.result import Shown
from causalcxr.scm.questions.check_plot import Panel, page

if TYPE_CHECKING:
    from causalcxr.common.figure import Page

__all__ = ["Check"]


@dataclass(frozen=True)
class Check(Shown):
    """The result of the tests of a model's equations; see `SCM.check`.

    Args:
        rows: The number of records tested.
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
    def from_tests(
        cls,
        results: Sequence[tuple[list[dict], dict, Panel]],
        untested: Mapping[str, str],
        n_records: int,
        where: str,
        *,
        alpha: float,
        least: float,
    ) -> "Check":
        """Correct the p-values of all tests as one family.

        Args:
            results: For each equation: its tests, its likelihood and its plots.
            untested: The variables that could not be tested, and why.
            n_records: The number of records.
            where: Which records.
            alpha: The false discovery rate.
            least: The smallest effect that counts.
        """
        names = ["variable", "test", "against", "n", "effective", "effect", "p"]
        tests = pd.DataFrame(
            [row for part in results for row in part[0]], columns=[*names, "told"]
        )
        # Benjamini and Hochberg's correction over all tests of all equations.
        q = false_discovery_control(tests["p"].to_numpy(dtype=np.float64))
        tests.insert(7, "q", q)
        # Both are required: with many records even a harmless deviation is significant.
        tests.insert(8, "failed", (q <= alpha) & (tests["effect"].to_numpy() >= least))
        columns = ["variable", "n", "log_prob", "marginal", "gain", "error"]
        likelihood = pd.DataFrame([part[1] for part in results], columns=columns)
        panels = FrozenDict({part[1]["variable"]: part[2] for part in results})
        likelihood = likelihood.set_index("variable")
        return cls(n_records, where, alpha, least, FrozenDict(untested), tests, likelihood, panels)

    @property
    def table(self) -> pd.DataFrame:
        """One row per test: variable, test, against, n, effective, effect, p, q, failed, told."""
        return self._tests.copy()

    @property
    def likelihood(self) -> pd.DataFrame:
        """Per variable: n, mean log-probability, the marginal's, the gain and its error, nats."""
        return self._likelihood.copy()

    @property
    def family(self) -> int:
        """The number of tests over which the false discovery rate is controlled."""
        return len(self._tests)

    @property
    def failed(self) -> dict[str, tuple[str, ...]]:
        """The variables whose equation fails, with the reasons, the strongest first."""
        failures = self._tests[self._tests["failed"]].sort_values(["q", "effect"], kind="stable")
        return {
            name: tuple(part["told"]) for name, part in failures.groupby("variable", sort=False)
        }

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw every equation in one figure: ranks, and calibration or quantiles.

        Args:
            path: A file to write the picture to, PNG.
        """
        failed = self.failed
        panels = {name: (panel, failed.get(name, ())) for name, panel in self._panels.items()}
        return page(panels, self.heading, path)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tests and the likelihood, as they are written."""
        return {"tests": self.table, "likelihood": self.likelihood}

    @property
    def about(self) -> dict[str, Any]:
        """The settings of the question, for a manifest."""
        return {
            "records": self.rows,
            "split": self.where,
            "alpha": self.alpha,
            "least": self.least,
            "untested": dict(self.untested),
        }

    @property
    def heading(self) -> str:
        """How many of the tested equations fail, and by which rule."""
        tested = self._tests["variable"].nunique()
        records = f"{self.rows:,} records ({self.where})"
        if not tested:
            return f"not tested: none of {len(self.untested)} equations, on {records}"
        left = f", {len(self.untested)} not tested," if self.untested else ""
        rule = f"{self.family} tests, false discovery rate {self.alpha:g}, least {self.least:g}"
        return f"{len(self.failed)} of {tested} equations fail{left} on {records}; {rule}"

    def summary(self) -> pd.DataFrame:
        """Return one row per equation: its `verdict`, and `why` it fails or was not tested."""
        failed, rows = self.failed, {}
        for name, part in self._tests.groupby("variable", sort=False):
            # The most significant test, and of equal ones that with the larger effect.
            worst = part.sort_values(["q", "effect"], ascending=[True, False]).iloc[0]
            verdict, why = ("fails", "; ".join(failed[name])) if name in failed else ("ok", "")
            rows[name] = (verdict, int(worst["n"]), worst["effect"], worst["q"], why)
        rows |= {
            name: ("not tested", 0, np.nan, np.nan, why) for name, why in self.untested.items()
        }
        columns = ["verdict", "records", "effect", "q", "why"]
        index = pd.Index(rows, name="variable")
        table = pd.DataFrame(list(rows.values()), index=index, columns=columns)
        order = {"fails": 0, "ok": 1, "not tested": 2}
        return table.sort_values("verdict", key=lambda v: v.map(order), kind="stable")

    def _printed(self) -> pd.DataFrame:
        """Return the equations that fail or were not tested."""
        summary = self.summary()
        return summary[summary["verdict"] != "ok"]
