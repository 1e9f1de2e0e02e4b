"""The tables of an audit, and what they say in sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from causalcxr.audit.group_measures import GroupMeasures
from causalcxr.audit.pairs import Pairs

__all__ = ["AuditTables"]

_CAUTION = (
    "Effects are those of a generative model and its causal graph, which data cannot prove; "
    "groups are those of the metadata."
)


@dataclass(frozen=True, eq=False)
class AuditTables:
    """Hold the tables of an audit.

    Args:
        pairs: The records and twins that were audited.
        records: A row a pair: `patient`, the columns of groups, `label` and `label_twin` (0, 1 or
            NaN), the scores `factual`, `twin`, `null`, `direct`, and `why` the pair is rejected
            ("" if it is accepted), `valid`.
        groups: A row a group of records: n, positives, negatives, patients, `few`.
        observed: The measures of each group, or None where no label is known.
        effects: A row a group and kind of effect, see `individual_effects.effect_table`.
        flips: A row a group, see `individual_effects.flip_table`.
        flip_matrix: Number of decisions before and after, over all groups.
        tests: A row a hypothesis, see `hypotheses.hypotheses`.
        about: Settings and origin, JSON.
    """

    pairs: Pairs
    records: pd.DataFrame
    groups: pd.DataFrame
    observed: GroupMeasures | None
    effects: pd.DataFrame
    flips: pd.DataFrame
    flip_matrix: pd.DataFrame
    tests: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def sentences(self) -> list[str]:
        """The results, in sentences that claim no more than the design allows."""
        return [
            self._pairs_sentence(),
            *self._effect_sentences(),
            self._flip_sentence(),
            self._test_sentence(),
            *self.about.get("notes", ()),
            _CAUTION,
        ]

    def _pairs_sentence(self) -> str:
        about, flow = self.about, self.pairs.flow
        first, last = flow.iloc[0], flow.iloc[-1]
        return (
            f"{about['classifier']} scored {first['pairs']:,} pairs of records and their twins "
            f"under {about['words']}; {last['pairs']:,} of them, of {last['patients']:,} "
            "patients, passed the quality checks."
        )

    def _effect_sentences(self) -> list[str]:
        rows = self.effects.set_index(["group", "kind"])
        total = rows.loc[("all", "total")]
        sentences = [
            f"Under the intervention its score changed by {total['mean']:+.3f} on average "
            f"(95 % interval {total['low']:+.3f} to {total['high']:+.3f})."
        ]
        # Only with null twins is the error of the generator itself known.
        if ("all", "excess") in rows.index:
            excess = rows.loc[("all", "excess")]
            sentences.append(
                f"The mean absolute change exceeds that of the null twins by {excess['mean']:.3f} "
                f"({excess['low']:.3f} to {excess['high']:.3f})."
            )
        return sentences

    def _flip_sentence(self) -> str:
        about, flips = self.about, self.flips.iloc[0]
        return (
            f"At the threshold of {about['threshold']:.3f} ({about['rule']}, chosen on "
            f"{about['threshold_from']}), {100 * flips['up']:.1f} % of the decisions turned "
            f"positive and {100 * flips['down']:.1f} % negative."
        )

    def _test_sentence(self) -> str:
        families = self.tests["family"].value_counts()
        return (
            f"{self.tests['told'].sum()} of {len(self.tests)} hypotheses "
            f"({families.get('declared', 0)} declared, Holm; {families.get('explored', 0)} "
            f"explored, Benjamini-Hochberg) have an adjusted p below {self.about['alpha']:g}."
        )
