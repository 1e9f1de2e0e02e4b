"""What a fitted model can be asked, beside its twins: each question has a module of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalcxr.cohort import Cohort
from causalcxr.interventions import Intervention

if TYPE_CHECKING:
    from causalcxr.check_result import Check
    from causalcxr.effect_result import Effect
    from causalcxr.model_comparison import ModelComparison
    from causalcxr.pyro_program import PyroProgram
    from causalcxr.sensitivity import Sensitivity

__all__ = ["Questions"]

Action = Intervention | Mapping[str, Any] | None


class Questions:
    """The questions, as methods of `SCM`. The modules stand on the model: imported when asked."""

    def effect(
        self,
        cohort: Cohort,
        action: Intervention | Mapping[str, Any],
        baseline: Action = None,
        **options: Any,
    ) -> "Effect":
        """Return what an action changes, in total or along some ways; see `effects.effect`."""
        from causalcxr.effects import effect

        return effect(self, cohort, action, baseline, **options)

    def probabilities(
        self, cohort: Cohort, action: Action = None, /, **options: Any
    ) -> pd.DataFrame:
        """Return P(twin = level | the record), exact where few states allow; see `probabilities`.

        Example:
            >>> from causalcxr import SCM, Graph
            >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
            >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
            >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
            >>> model = SCM(graph).fit(Cohort(table))
            >>> model.probabilities(Cohort(table), {"sex": "M"}).iloc[1].tolist()
            [1.0, 0.0]
        """
        from causalcxr.probabilities import probabilities

        return probabilities(self, cohort, action, **options)

    def sensitivity(
        self, cohort: Cohort, action: Action = None, /, **options: Any
    ) -> "Sensitivity":
        """Return what of a discrete answer is data, what assumption; see `sensitivity`."""
        from causalcxr.sensitivity import sensitivity

        return sensitivity(self, cohort, action, **options)

    def support_of(self, cohort: Cohort, action: Action = None, /, **options: Any) -> pd.DataFrame:
        """Return how much training data stands behind each record's twin; see `support`."""
        from causalcxr.support import support

        return support(self, cohort, action, **options)

    def check(self, cohort: Cohort, **options: Any) -> "Check":
        """Return tests of each equation on held-out records; see `checks.check`."""
        from causalcxr.checks import check

        return check(self, cohort, **options)

    def compare(
        self, other: "Questions", cohort: Cohort, action: Action = None, /, **options: Any
    ) -> "ModelComparison":
        """Return how another model's twins differ from this one's; see `model_comparison`."""
        from causalcxr.model_comparison import compare_models

        return compare_models(self, other, cohort, action, **options)

    def to_pyro(self, *, noise: bool = False) -> "PyroProgram":
        """Return the model as a Pyro program with named sites; see `pyro_program.to_pyro`."""
        from causalcxr.pyro_program import to_pyro

        return to_pyro(self, noise=noise)
