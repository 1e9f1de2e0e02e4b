"""Which twins to make of which records."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.comparison import Comparison
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.graph.interventions import Intervention
from causalcxr.scm.identity import model_identity
from causalcxr.scm.model_images import sizes_of
from causalcxr.scm.scm import SCM

__all__ = ["TwinJob"]


@dataclass(frozen=True)
class TwinJob:
    """Which twins to make.

    Args:
        model: A fitted model.
        cohort: The factual records.
        action: The intervention.
        hold: Variables that keep their factual value.
        draws: Posterior samples of each record.
        missing: "keep", or "posterior": missing values are drawn first, given the observed ones.
        seed: Of the posterior samples.
        with_images: The largest number of records with images; None for all.
        pairs: The number of pairs on the figure.
    """

    model: SCM
    cohort: Cohort
    action: Intervention
    hold: tuple[str, ...] = ()
    draws: int = 1
    missing: str = "keep"
    seed: int = 0
    with_images: int | None = None
    pairs: int = 12

    def compare(self) -> Comparison:
        """Return the records beside their twins, images not yet computed.

        Where missing values are drawn, the records have them too, so that the two sides differ
        only in what the action changed.

        Raises:
            CausalCXRError: As `SCM.counterfactual` does.
        """
        # Action, abduction, prediction.
        acted = self.model.do(self.action, hold=self.hold)  # refused before abduction
        noise = self.model.abduct(self._repeated(), missing=self.missing, seed=self.seed)
        return noise.cohort.compare(acted.predict(noise))

    def drawn(self, compared: Comparison) -> pd.Series | None:
        """Return which missing values of each row were drawn, in words; None where none can be."""
        if self.missing == "keep":
            return None
        cohort, graph = self._repeated(), self.model.graph
        # Drawn is what was missing in the record and is known after abduction.
        before, after = cohort.columns(graph), compared.factual.columns(graph)
        words = np.full(len(cohort), "", dtype=object)
        for name in graph.tabular:
            rows = np.isnan(before[name]) & ~np.isnan(after[name])
            words[rows] += np.where(words[rows] == "", name, f", {name}")
        return pd.Series(words, index=compared.factual.index)

    def describe(self) -> dict[str, Any]:
        """Return the settings for the manifest."""
        graph = self.model.graph
        # What determines the twins: changing any of it makes other ones.
        return {
            "intervention": self.action.bind(graph).to_json(),
            "hold": [graph.find(name) for name in self.hold],
            "draws": self.draws,
            "missing": self.missing,
            "seed": self.seed,
            "records": len(self.cohort),
            "with_images": self.with_images,
            "source": self.cohort.source,
            "cohort": fingerprint(self.cohort),
            **model_identity(self.model),
            "images": sizes_of(self.model, self.cohort),
        }

    def _repeated(self) -> Cohort:
        """Return the records, each once for every posterior sample."""
        return self.cohort.repeat(self.draws) if self.draws != 1 else self.cohort
