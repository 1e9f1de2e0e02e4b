"""The questions that a fitted model answers, beside its twins: one module each."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from causalcxr.cohort.cohort_input import Records
from causalcxr.graph.arguments import Action, action_of, check_options

if TYPE_CHECKING:
    from causalcxr.graph.edge_paths import Path
    from causalcxr.scm.questions.check_result import Check
    from causalcxr.scm.questions.effect_result import Effect
    from causalcxr.scm.questions.model_comparison import ModelComparison
    from causalcxr.scm.questions.probabilities_result import Probabilities
    from causalcxr.scm.questions.pyro_program import PyroProgram
    from causalcxr.scm.questions.sensitivity import Sensitivity
    from causalcxr.scm.questions.support_result import Support

__all__ = ["Questions"]


class Questions:
    """The questions, as methods of `SCM`; their modules are imported when they are called.

    Each takes records as a Cohort or as a DataFrame, and an intervention as `do(sex="M")` or by
    name: `model.effect(cohort, sex="M")`.
    """

    def effect(
        self,
        cohort: Records,
        action: Action = None,
        /,
        baseline: Action = None,
        *,
        kind: str = "total",
        mediators: str | Iterable[str] | None = None,
        through: "Iterable[Path] | None" = None,
        hold: str | Iterable[str] = (),
        draws: int | None = None,
        seed: int = 0,
        recompute: bool = False,
        beyond_range: bool = False,
        **values: Any,
    ) -> "Effect":
        """Return the effect of an action, in total or along some paths; see `effects.effect`.

        Args:
            cohort: Factual records.
            action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
            baseline: The intervention to compare with; none by default.
            kind: "total", "direct" or "indirect".
            mediators: Descendants of the action, for direct and indirect effects.
            through: Edges (tail, head) and paths, for a path-specific effect.
            hold: Variables, or one, that keep their factual value under action and baseline.
            draws: Posterior samples per record; the index is (record, draw) unless it is None.
            seed: Of the posterior samples.
            recompute: Compute every value anew, also where no parent changed.
            beyond_range: See `SCM.do`.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            InterventionError: If action, baseline, mediators and paths are inconsistent.
            CausalCXRError: As `SCM.counterfactual` does.
        """
        from causalcxr.scm.questions.effects import effect

        check_options(self.graph, kind=kind, mediators=mediators, hold=hold, draws=draws)
        check_options(self.graph, seed=seed, recompute=recompute, beyond_range=beyond_range)
        return effect(
            self.do(hold=hold, beyond_range=beyond_range),
            cohort,
            action_of(action, values, beyond_range),
            baseline,
            kind=kind,
            mediators=mediators,
            through=through,
            draws=draws,
            seed=seed,
            recompute=recompute,
        )

    def probabilities(
        self,
        cohort: Records,
        action: Action = None,
        /,
        *,
        variables: str | Sequence[str] | None = None,
        hold: str | Iterable[str] = (),
        draws: int = 200,
        seed: int = 0,
        beyond_range: bool = False,
        **values: Any,
    ) -> "Probabilities":
        """Return P(twin = level | record), exact where few states allow it; see `probabilities`.

        Args:
            cohort: Factual records.
            action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
            variables: Discrete variables, or one; by default those that the action can change.
            hold: Variables, or one, that keep their factual value.
            draws: Posterior samples per record, where they are needed.
            seed: Of the samples.
            beyond_range: See `SCM.do`.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            CohortError, InterventionError, ModelError: As `SCM.do` and `SCM.abduct` do.
            InterventionError: If a variable has no levels.

        Example:
            >>> import pandas as pd
            >>> from causalcxr import SCM, Cohort, Graph
            >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
            >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
            >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
            >>> model = SCM(graph).fit(Cohort(table))
            >>> model.probabilities(Cohort(table), sex="M").table.iloc[1].tolist()
            [1.0, 0.0]
        """
        from causalcxr.scm.questions.probabilities import probabilities

        check_options(self.graph, variables=variables, hold=hold, draws=draws, seed=seed)
        return probabilities(
            self,
            cohort,
            action_of(action, values, beyond_range),
            variables=variables,
            hold=hold,
            draws=draws,
            seed=seed,
            beyond_range=beyond_range,
        )

    def sensitivity(
        self,
        cohort: Records,
        action: Action = None,
        /,
        *,
        variables: str | Sequence[str] | None = None,
        vary: str = "all",
        hold: str | Iterable[str] = (),
        draws: int = 200,
        seed: int = 0,
        beyond_range: bool = False,
        **values: Any,
    ) -> "Sensitivity":
        """Return how far discrete answers depend on the couplings; see `sensitivity`.

        Args:
            cohort: Factual records; those where the variable is missing do not count for it.
            action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
            variables: Discrete variables, or one; by default those that the action can change.
            vary: "all" or "one": which couplings are exchanged at a time.
            hold: Variables, or one, that keep their factual value.
            draws: Posterior samples per record, where a continuous ancestor may change.
            seed: Of the samples.
            beyond_range: See `SCM.do`.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            CohortError, InterventionError, ModelError: As `probabilities` does.
            InterventionError: If a variable cannot change, or `vary` has another value.
        """
        from causalcxr.scm.questions.sensitivity import sensitivity

        check_options(self.graph, variables=variables, vary=vary, hold=hold, draws=draws)
        check_options(self.graph, seed=seed)
        return sensitivity(
            self,
            cohort,
            action_of(action, values, beyond_range),
            variables=variables,
            vary=vary,
            hold=hold,
            draws=draws,
            seed=seed,
            beyond_range=beyond_range,
        )

    def support_of(
        self,
        cohort: Records,
        action: Action = None,
        /,
        *,
        hold: str | Iterable[str] = (),
        few: int = 20,
        seed: int = 0,
        beyond_range: bool = False,
        **values: Any,
    ) -> "Support":
        """Return how much training data each record's twin is based on; see `support`.

        Args:
            cohort: Factual records.
            action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
            hold: Variables, or one, that keep their factual value.
            few: Parent configurations with fewer training records are flagged.
            seed: Of the twins, which use one posterior sample.
            beyond_range: See `SCM.do`.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            CohortError, InterventionError, ModelError: As `SCM.counterfactual` does.
        """
        from causalcxr.scm.questions.support_report import support

        check_options(self.graph, hold=hold, few=few, seed=seed)
        action = action_of(action, values, beyond_range)
        return support(
            self, cohort, action, hold=hold, few=few, seed=seed, beyond_range=beyond_range
        )

    def check(
        self,
        cohort: Records,
        /,
        *,
        split: str | None = None,
        rows: int = 20_000,
        alpha: float = 0.01,
        least: float = 0.02,
        seed: int = 0,
    ) -> "Check":
        """Return tests of each equation on held-out records; see `checks.check`.

        Args:
            cohort: Records with splits, or the training cohort.
            split: "test", "val" or "train", or "all" for every record; by default the held-out
                ones.
            rows: The largest number of records, chosen by a hash of their ids.
            alpha: The false discovery rate.
            least: Smaller effects are no failure, however significant.
            seed: Of the posterior samples and of the choice of records.

        Raises:
            CohortError: If the graph does not declare a value.
            ModelError: If the model is not fitted or stale, or no record is held out.
        """
        from causalcxr.scm.questions.checks import check

        return check(self, cohort, split=split, rows=rows, alpha=alpha, least=least, seed=seed)

    def compare(
        self,
        other: "Questions",
        cohort: Records,
        action: Action = None,
        /,
        *,
        hold: str | Iterable[str] = (),
        draws: int | None = None,
        missing: str = "keep",
        seed: int = 0,
        recompute: bool = False,
        beyond_range: bool = False,
        **values: Any,
    ) -> "ModelComparison":
        """Return how another model's twins differ from this one's; see `model_comparison`.

        Args:
            other: Another fitted model, such as the edited one.
            cohort: Factual records; images are not compared.
            action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
            hold: Variables, or one, that keep their factual value.
            draws: Posterior samples per record; the index is (record, draw) unless it is None.
            missing: See `SCM.abduct`.
            seed: Of the posterior samples.
            recompute: See `SCM.predict`.
            beyond_range: See `SCM.do`.
            **values: Names and values, as in `causalcxr.do`.

        Raises:
            ModelError: If the models have no variable in common.
            CausalCXRError: As `SCM.counterfactual` does, of either model.
        """
        from causalcxr.scm.questions.model_comparison import compare_models

        return compare_models(
            self,
            other,
            cohort,
            action,
            hold=hold,
            draws=draws,
            missing=missing,
            seed=seed,
            recompute=recompute,
            beyond_range=beyond_range,
            **values,
        )

    def to_pyro(self, *, noise: bool = False) -> "PyroProgram":
        """Return the model as a Pyro program with named sites; see `pyro_program.to_pyro`."""
        from causalcxr.scm.questions.pyro_program import to_pyro

        return to_pyro(self, noise=noise)
