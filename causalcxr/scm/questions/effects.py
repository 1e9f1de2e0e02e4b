"""Effects: two twins of each record under the same noise, and their difference."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records
from causalcxr.common.errors import GraphError, InterventionError, nearest
from causalcxr.graph.arguments import Action, action_of, check_options
from causalcxr.graph.edge_paths import Edge, Path, read_edges, recanting_witnesses
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention, do
from causalcxr.scm.identity import couplings
from causalcxr.scm.prediction import Noise, Prediction
from causalcxr.scm.questions.effect_result import Effect, features

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Effect", "effect"]

KINDS = ("total", "direct", "indirect")


def effect(
    model: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    baseline: Action = None,
    *,
    kind: str = "total",
    mediators: str | Iterable[str] | None = None,
    through: Iterable[Path] | None = None,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    seed: int = 0,
    recompute: bool = False,
    beyond_range: bool = False,
    **values: Any,
) -> Effect:
    """Return the effect of an action against a baseline, record by record under shared noise.

    Write A for what the action sets, a and b for its values under action and baseline (b is the
    observed value where the baseline does not set A), X(a) and X(b) for a variable's values then.

    - total: X(a) - X(b).
    - direct: X(a, M(b)) - X(b), the natural direct effect (Pearl, 2001): the mediators M keep the
      values they have under the baseline.
    - indirect: X(b, M(a)) - X(b), the natural indirect effect: A stays as under the baseline, and
      the mediators get the values they have under the action.
    - through: the path-specific effect (Avin, Shpitser & Pearl, 2005). The action acts along the
      named edges only: each of them passes the value that its tail has in this twin, every other
      edge the value that its tail has under the baseline. A path that ends in `...` continues
      along all edges downstream; the values are then those of an intervention on the edges out
      of A (Shpitser & Tchetgen Tchetgen, 2016).

    Without `mediators`, direct and indirect effects take each variable in turn as the outcome, and
    all its other parents as its mediators; their twins then combine one answer per variable and
    are not one consistent record. For every kind, total(a, b) = direct(a, b) - indirect(b, a).

    With known equations and shared noise every such effect is defined for every record. Whether
    data can identify its mean is another question: see `Effect.recanting`.

    Args:
        model: A fitted model; both sides share its own interventions and held variables.
        cohort: Factual records; both sides have images where model and records have them.
        action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
        baseline: The intervention to compare with; none by default. Except for total effects it
            may set only variables that the action sets.
        kind: "total", "direct" or "indirect".
        mediators: Variables downstream of the action, for direct and indirect effects.
        through: Edges (tail, head) and paths, for a path-specific effect.
        hold: Variables, or one, that keep their factual value under action and baseline.
        draws: Posterior samples per record; the index is (record, draw) unless it is None.
        seed: Of the posterior samples, and of interventions that are distributions: action and
            baseline use the same random numbers.
        recompute: Compute every value anew, also where no parent changed; this includes the error
            of solvers.
        beyond_range: See `SCM.do`.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        InterventionError: If action, baseline, mediators and paths are inconsistent.
        CausalCXRError: As `SCM.counterfactual` does.

    Example:
        >>> import pandas as pd
        >>> from causalcxr import SCM, Cohort
        >>> table = pd.DataFrame({"Sex": ["F", "M"] * 40, "Edema": ["N", "P", "N", "N"] * 20})
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> men = effect(SCM(graph).fit(Cohort(table)), Cohort(table), do(sex="M"))
        >>> men.table["change"].tolist()
        [-0.5, 0.5]
    """
    check_options(model.graph, kind=kind, mediators=mediators, hold=hold, draws=draws)
    check_options(model.graph, seed=seed, recompute=recompute, beyond_range=beyond_range)
    # Bind both interventions to the graph, and choose the edges that pass the effect on.
    model = model.do(hold=hold, beyond_range=beyond_range)
    action = _bound(model.graph, action_of(action, values, beyond_range))
    base = _bound(model.graph, baseline) if baseline is not None else do().bind(model.graph)
    plan = _Plan.from_arguments(model.graph, action, base, kind, mediators, through)
    many = draws or 1
    # Abduct once: both twins share the noise.
    noise = model.abduct(cohort, draws=draws, seed=seed)
    predictions = _Predictions(model, noise, action.repeat(many), base.repeat(many), recompute)
    active = predictions.active(plan)
    # What a reader needs to interpret or repeat the effect.
    about = {
        "kind": plan.kind,
        "action": action.to_json(),
        "baseline": base.to_json(),
        "words": action.describe(),
        "baseline_words": base.describe() if base else "",
        "mediators": list(plan.mediators) if plan.mediators is not None else None,
        "through": [list(edge) for edge in sorted(plan.edges)] if plan.kind == "path" else None,
        "recanting": {name: list(witnesses) for name, witnesses in plan.recanting.items()},
        "coupling": couplings(model),
        "draws": many,
        "seed": seed,
        "recompute": recompute,
    }
    return Effect(
        active.cohort(f"{plan.kind} effect of {action.describe()}"),
        predictions.baseline_cohort(),
        plan.recanting,
        about,
        features(model.graph, predictions.base.arrays),
        features(model.graph, active.arrays),
    )


@dataclass(frozen=True)
class _Plan:
    """The kind of effect and its edges, checked against the graph.

    Args:
        kind: total, direct, indirect or path.
        causes: The variables that the action sets.
        mediators: The mediators, or None for all other parents of each outcome.
        edges: The edges that pass on the action, for paths.
        recanting: See `Effect`.
    """

    kind: str
    causes: tuple[str, ...]
    mediators: tuple[str, ...] | None
    edges: frozenset[Edge]
    recanting: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_arguments(
        cls,
        graph: Graph,
        action: Intervention,
        baseline: Intervention,
        kind: str,
        mediators: Iterable[str] | None,
        through: Iterable[Path] | None,
    ) -> "_Plan":
        # Check the combination of arguments, then translate it into edges.
        causes = tuple(action.settings)
        if not causes:
            raise InterventionError("effect: no action; give one, such as do(sex='M')")
        if kind not in KINDS:
            hint = nearest(kind, KINDS)
            raise InterventionError(f"effect: kind {kind!r} is none of {', '.join(KINDS)}{hint}")
        if through is not None and (kind != "total" or mediators is not None):
            raise InterventionError("effect: through= excludes kind= and mediators=")
        if mediators is not None and kind == "total":
            raise InterventionError("effect: mediators= needs kind='direct' or 'indirect'")
        if kind == "total" and through is None:
            return cls(kind, causes, None, frozenset(), {})
        if extra := [name for name in baseline.settings if name not in causes]:
            raise InterventionError(
                f"effect: the baseline sets {extra[0]!r} and the action does not; set it in both"
            )
        # Edges into a set variable pass nothing on.
        live = {edge for edge in graph.edges if edge[1] not in causes}
        if through is not None:
            kind, edges = "path", read_edges(graph, list(through), causes)
        elif mediators is not None:
            mediators = _mediators(graph, mediators, causes)
            edges = frozenset(edge for edge in live if edge[1] not in mediators)
        else:
            # Without mediators: the causes' own edges.
            edges = frozenset(edge for edge in live if edge[0] in causes)
        return cls(kind, causes, mediators, edges, recanting_witnesses(graph, causes, edges))


class _Predictions:
    """The predictions from one noise: under the baseline, and under the action.

    Args:
        model: The model.
        noise: The noise of n rows.
        action: The intervention.
        baseline: The intervention to compare with.
        recompute: See `effect`.
    """

    def __init__(
        self,
        model: "SCM",
        noise: Noise,
        action: Intervention,
        baseline: Intervention,
        recompute: bool,
    ) -> None:
        self.model, self.noise, self.recompute = model, noise, recompute
        self.note = baseline.describe() if baseline else "no intervention"
        self.base_fixed = self._fixed(baseline)
        self.active_fixed = self._fixed(action)
        self.base = self._predict(self.base_fixed)

    def active(self, plan: _Plan) -> Prediction:
        """Return the prediction under the action, as far as the kind of effect passes it on."""
        base, edges = self.base.columns, self.model.graph.edges
        if plan.kind == "total":
            return self._predict(self.active_fixed)
        if plan.kind == "path":
            # All other edges pass the baseline's values.
            blocked = {edge: base[edge[0]] for edge in edges if edge not in plan.edges}
            return self._predict(self.active_fixed, blocked)
        others = [edge for edge in edges if edge[0] not in plan.causes]
        if plan.kind == "direct":
            # The mediators keep the baseline's values.
            if plan.mediators is None:
                return self._predict(self.active_fixed, {e: base[e[0]] for e in others})
            return self._predict(self.active_fixed | {m: base[m] for m in plan.mediators})
        # Indirect: the causes keep the baseline's values, the mediators get those of the action.
        total = self._predict(self.active_fixed).columns
        fixed = self.base_fixed | {cause: base[cause] for cause in plan.causes}
        if plan.mediators is None:
            return self._predict(fixed, {e: total[e[0]] for e in others})
        return self._predict(fixed | {m: total[m] for m in plan.mediators})

    def baseline_cohort(self) -> Cohort:
        """Return the baseline's twins, or the records themselves without a baseline."""
        if self.base_fixed or self.recompute:
            return self.base.cohort(self.note)
        records = self.noise.cohort
        return records if self.base.images() is not None else records.with_images(None)

    def _fixed(self, action: Intervention) -> dict[str, Tensor]:
        acted = self.model.do(action) if action else self.model
        return acted._fixed(self.noise)

    def _predict(
        self, fixed: Mapping[str, Tensor], edges: Mapping[Edge, Tensor] | None = None
    ) -> Prediction:
        return Prediction(
            self.model.graph,
            self.model._mechanisms,
            self.noise,
            fixed,
            recompute=self.recompute,
            edges=edges,
        )


def _bound(graph: Graph, action: Intervention | Mapping[str, Any]) -> Intervention:
    return (action if isinstance(action, Intervention) else do(action)).bind(graph)


def _mediators(graph: Graph, names: Iterable[str], causes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the canonical names of mediators: descendants of the causes, not the image."""
    mediators = []
    for name in [names] if isinstance(names, str) else names:
        try:
            # Accept aliases; refuse what cannot mediate.
            canonical = graph.find(name)
        except GraphError as error:
            raise InterventionError(f"mediator {name!r}: {error}") from None
        if graph[canonical].is_image:
            raise InterventionError(f"mediator {name!r}: the image is the outcome")
        if canonical in causes:
            raise InterventionError(f"mediator {name!r}: {canonical!r} is set; name another")
        if canonical not in graph.descendants(*causes):
            raise InterventionError(
                f"mediator {name!r}: {canonical!r} is no descendant of {' or '.join(causes)}; "
                "name another"
            )
        mediators.append(canonical)
    if not mediators:
        raise InterventionError("effect: no mediator named; leave mediators= out for all")
    return tuple(dict.fromkeys(mediators))
