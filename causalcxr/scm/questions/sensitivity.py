"""Sensitivity: how much of a counterfactual depends on the coupling, not on data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import InterventionError
from causalcxr.common.figure import Page
from causalcxr.common.progress import progress
from causalcxr.common.random_numbers import Draws
from causalcxr.common.result import Shown
from causalcxr.common.threads import one_thread
from causalcxr.graph.arguments import Action, action_of, check_options
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.scm.questions.exact_distributions import exact_and_bounds, exact_distributions
from causalcxr.scm.questions.image_sensitivity import image_sensitivity
from causalcxr.scm.questions.probabilities import acted_model, target_variables
from causalcxr.scm.questions.sensitivity_plot import draw_changes, draw_images
from causalcxr.scm.questions.transition_probabilities import COUPLINGS
from causalcxr.scm.questions.twin_network import TwinNetwork, sampled_distributions

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Sensitivity", "sensitivity"]

_TRIED = ("model", *COUPLINGS)
_VARIED = ("all", "one")


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Shown):
    """The answer under each coupling, and bounds that hold for any coupling.

    Args:
        action: The intervention, in words.
        vary: "all" or "one": which couplings are exchanged at a time, see `sensitivity`.
        draws: Posterior samples per record, where the answer is not exact.
    """

    action: str
    vary: str
    draws: int
    _table: pd.DataFrame = field(default_factory=pd.DataFrame)
    _images: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def table(self) -> pd.DataFrame:
        """Means over records, one row for each variable and outcome (`change`, or a level).

        Columns: `factual`, the share of records that have the level; `model` and each coupling,
        the mean probability of the outcome; `lower` and `upper`, bounds for every coupling that
        keeps the learned distributions, NaN where draws were needed; `width`, their distance;
        `relative_width`, the width over the model's answer; `records`, the number averaged;
        `method`, exact or draws.
        """
        return self._table.copy()

    @property
    def images(self) -> pd.DataFrame:
        """The twins' images under both couplings of the image; see `image_sensitivity`.

        One row a measure (`change of the image`, `change of the score`); empty without images.
        """
        return self._images.copy()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The discrete variables, then the images if there are any, as they are written."""
        return {"table": self.table} | ({"images": self.images} if len(self._images) else {})

    @property
    def changes(self) -> pd.DataFrame:
        """The rows of `table` with the probability of any change, one per variable."""
        rows = self._table.index.get_level_values("outcome") == "change"
        return self._table[rows].droplevel("outcome").drop(columns="factual")

    @property
    def about(self) -> dict[str, Any]:
        """The settings of the question, for a manifest."""
        return {"action": self.action, "vary": self.vary, "draws": self.draws}

    @property
    def heading(self) -> str:
        """The question, in one line."""
        return f"{self.action}: mean probability of change under each coupling"

    def summary(self) -> pd.DataFrame:
        """Return the mean probability of change of each variable; see `changes`."""
        return self.changes.drop(columns=["width", "relative_width"])

    def plot(self, path: str | Path | None = None) -> Page:
        """Draw, for each variable, the bounds of the probability of change and every coupling.

        Where there are images, a panel below has their change under both couplings.

        Args:
            path: A file to write the picture to, PNG.
        """
        rows, images = self.changes, self._images
        # Above the discrete variables, below the images if there are any.
        heights = [1.3 + 0.3 * max(len(rows), 1), *([1.3] if len(images) else [])]
        page = Page(figsize=(6.4, sum(heights)), layout="constrained")
        panels = page.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0]
        draw_changes(panels[0], rows)
        panels[0].set_title(f"{self.action}: what the coupling decides", fontsize=10, loc="left")
        if len(images):
            draw_images(panels[1], images)
        return page.written(path)

    def __str__(self) -> str:
        text = super().__str__()
        if not len(self._images):
            return text
        return f"{text}\n{self._images.to_string(float_format='{:.4g}'.format)}"

    def __repr__(self) -> str:
        changes = ", ".join(
            f"{name} {row['model']:.2f} in [{row['lower']:.2f}, {row['upper']:.2f}]"
            for name, row in self.changes.iterrows()
        )
        return f"Sensitivity({self.action}; P(change): {changes or 'nothing can change'})"


def sensitivity(
    model: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    *,
    variables: str | Sequence[str] | None = None,
    vary: str = "all",
    hold: str | Iterable[str] = (),
    draws: int = 200,
    images: int = 8,
    classifier: Any = None,
    seed: int = 0,
    beyond_range: bool = False,
    **values: Any,
) -> Sensitivity:
    """Return how answers change when the couplings are exchanged.

    The learned distributions p(x | parents) stay; only the joint distribution of fact and twin
    differs. With `vary="all"` the coupling is exchanged in every discrete descendant of the action
    at once, and the bounds allow any coupling in all of them. With `vary="one"` it is exchanged
    only in the equation of the variable in question; its ancestors keep the model's. Rules and
    continuous equations have no coupling. A factual value stays where no parent changed. Draws
    answer for a coupling without a closed form (`dequantised`); the others stay exact.

    For records with images, the twins' images of some of them are computed under both couplings
    of the image (`inversion` and `transport`), see `Sensitivity.images`.

    Bounds hold for each record, and are then averaged. For a child of the intervened variable, one
    coupling attains the bounds of a change in all records; the bounds of a level need not be
    attained, as a coupling that gives positives the most may give negatives the least. Further
    down the graph the bounds hold, but may be wider than the sharpest ones.

    Args:
        model: A fitted model, with or without interventions of its own.
        cohort: Factual records; those where the variable is missing do not count for it.
        action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
        variables: Discrete variables, or one; by default those that the action can change.
        vary: "all" or "one".
        hold: Variables, or one, that keep their factual value.
        draws: Posterior samples per record, where a continuous ancestor may change.
        images: The number of twins' images to compute under each coupling, 0 for none.
        classifier: Scores images; then the effect on its score is reported under each coupling. A
            function of images (n, 1, H, W) -> (n,), or see `causalcxr.audit.as_classifier`.
        seed: Of the samples.
        beyond_range: See `SCM.do`.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        CohortError, InterventionError, ModelError: As `probabilities` does.
        InterventionError: If a variable cannot change, or `vary` has another value.

    Example:
        >>> from causalcxr import SCM, Cohort, Graph
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
        >>> result = sensitivity(SCM(graph).fit(Cohort(table)), Cohort(table), {"sex": "M"})
        >>> result.changes[["model", "independent", "upper"]].round(1).loc["Edema"].tolist()
        [0.0, 0.2, 0.5]
    """
    check_options(model.graph, variables=variables, vary=vary, hold=hold, draws=draws)
    check_options(model.graph, seed=seed, images=images)
    action = action_of(action, values, beyond_range)
    if vary not in _VARIED:
        raise InterventionError(f"sensitivity: vary={vary!r}; use one of {list(_VARIED)}")
    cohort = as_cohort(cohort)
    acted, noise = acted_model(model, cohort, action, hold, beyond_range, seed)
    network = TwinNetwork.from_model(acted, noise)
    targets = target_variables(network, variables)
    if unmoved := [name for name in targets if name not in network.moving]:
        raise InterventionError(
            f"sensitivity: the action changes no cause of {unmoved[0]!r}; leave it out"
        )
    # Only discrete mechanisms have a coupling to exchange.
    coupled = [
        name
        for name in network.moving
        if isinstance(network.mechanisms.get(name), DiscreteMechanism)
    ]
    groups = (
        [(targets, coupled)]
        if vary == "all"
        else [([name], [name] if name in coupled else []) for name in targets]
    )
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for names, exchanged in progress(groups, "Exchanging couplings", "variables"):
        answers = _answers(network, names, exchanged, noise.draws, draws)
        for name in names:
            rows |= _rows(network, name, answers[name])
    index = pd.MultiIndex.from_arrays(
        tuple(zip(*rows, strict=True)) or ([], []), names=["variable", "outcome"]
    )
    table = pd.DataFrame(list(rows.values()), index=index, columns=_COLUMNS)
    compared = image_sensitivity(acted, noise, images, classifier)
    return Sensitivity(acted._described(), vary, draws, table, compared)


_COLUMNS = [
    "factual",
    *_TRIED,
    "lower",
    "upper",
    "width",
    "relative_width",
    "records",
    "method",
]


class _CouplingAnswer(NamedTuple):
    """The answers for one variable.

    Args:
        distributions: The probabilities of its levels under the model's coupling and under each
            other one, (n, K).
        bounds: Lower and upper bounds of these for any coupling, (n, K) each, or None.
        exact: Whether the model's own answer is exact, rather than from draws.
    """

    distributions: dict[str, Tensor]
    bounds: tuple[Tensor, Tensor] | None
    exact: bool


def _answers(
    network: TwinNetwork,
    names: Sequence[str],
    exchanged: Sequence[str],
    numbers: Draws,
    draws: int,
) -> dict[str, _CouplingAnswer]:
    """Return the answers for each variable."""
    # The model's own network, and one for each coupling.
    networks = {"model": network}
    networks |= {c: replace(network, couplings=dict.fromkeys(exchanged, c)) for c in COUPLINGS}
    free = replace(network, free=frozenset(exchanged))
    # The model's own coupling may have no closed form; the others have one.
    closed = all(network.coupling(name) for name in exchanged)
    together = {c: each for c, each in networks.items() if closed or c != "model"}
    with torch.no_grad(), one_thread():
        # Exact where few states allow it; the couplings share what they can.
        summed, bounds = exact_and_bounds(list(together.values()), free, names)
        exact = {"model": {} if closed else exact_distributions(network, names)}
        exact |= dict(zip(together, summed, strict=True))
        # Sampled elsewhere.
        distributions = {}
        for coupling, each in networks.items():
            rest = [name for name in names if name not in exact[coupling]]
            sampled = sampled_distributions(each, rest, numbers, draws)
            distributions[coupling] = exact[coupling] | {n: p for n, (p, _) in sampled.items()}
    return {
        name: _CouplingAnswer(
            {c: p[name] for c, p in distributions.items()},
            bounds.get(name),
            name in exact["model"],
        )
        for name in names
    }


def _rows(
    network: TwinNetwork, name: str, answer: _CouplingAnswer
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of one variable: any change, then each level."""
    x, levels = network.factual[name], network.graph[name].levels
    # All couplings are compared on the same records.
    undefined = torch.stack([p.isnan().all(1) for p in answer.distributions.values()]).any(0)
    used = ~x.isnan() & ~undefined
    n, fact = int(used.sum()), x[used].long()[:, None]
    p = {coupling: each[used] for coupling, each in answer.distributions.items()}
    missing = torch.full((n, len(levels)), torch.nan)
    lower, upper = (b[used] for b in answer.bounds) if answer.bounds else (missing, missing)
    base = {"records": n, "method": "exact" if answer.exact else "draws"}
    # Any change: one minus the probability of the factual level.
    change = base | {c: _mean(1 - each.gather(1, fact)[:, 0]) for c, each in p.items()}
    change |= {"factual": 0.0}
    change |= _width(change["model"], 1 - upper.gather(1, fact), 1 - lower.gather(1, fact))
    rows = {(name, "change"): change}
    for k, level in enumerate(levels):
        row = base | {c: _mean(each[:, k]) for c, each in p.items()}
        row |= {"factual": _mean((fact[:, 0] == k).double())}
        rows[name, level] = row | _width(row["model"], lower[:, k], upper[:, k])
    return rows


def _width(value: float, lower: Tensor, upper: Tensor) -> dict[str, float]:
    """Return the mean bounds, and how far apart they are, also against the value."""
    low, high = _mean(lower), _mean(upper)
    relative = (high - low) / value if value > 0 else np.nan
    return {"lower": low, "upper": high, "width": high - low, "relative_width": relative}


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else np.nan
