"""Counterfactual probabilities: how likely each level of each twin is, record by record."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import InterventionError, ModelError
from causalcxr.common.random_numbers import Draws
from causalcxr.common.threads import one_thread
from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.scm.prediction import Noise
from causalcxr.scm.questions.exact_distributions import exact_distributions
from causalcxr.scm.questions.probabilities_result import Probabilities
from causalcxr.scm.questions.twin_network import TwinNetwork, sampled_distributions

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = [
    "LevelDistribution",
    "acted_model",
    "level_distributions",
    "probabilities",
    "target_variables",
]


def probabilities(
    model: "SCM",
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
) -> Probabilities:
    """Return P(twin = level | all that is observed of the record) for discrete variables.

    If the ancestors that may change are discrete and have at most 4,096 joint states, a sum over
    them gives probabilities that are exact for the model. Otherwise, for example if a continuous
    ancestor may change, the ancestors are sampled and the last step is in closed form.

    Args:
        model: A fitted model, with or without interventions of its own.
        cohort: Factual records.
        action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
        variables: Discrete variables, or one; by default those that the action can change.
        hold: Variables, or one, that keep their factual value.
        draws: Posterior samples per record, where they are needed.
        seed: Of the samples. A record's numbers do not depend on the other records.
        beyond_range: See `SCM.do`.
        **values: Names and values, as in `causalcxr.do`.

    Returns:
        Its `table` has the columns (variable, level), one row a record; `method` is "exact" or
        "draws" for each variable, `standard_error` the largest of each variable over records and
        levels (0 where exact).

    Raises:
        CohortError, InterventionError, ModelError: As `SCM.do` and `SCM.abduct` do.
        InterventionError: If a variable has no levels.

    Example:
        >>> from causalcxr import SCM, Cohort, Graph
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
        >>> twins = probabilities(SCM(graph).fit(Cohort(table)), Cohort(table), {"sex": "M"})
        >>> twins
        Probabilities(do(Sex=M); 100 rows of Edema)
        >>> twins.table.iloc[1].tolist(), dict(twins.method)
        ([1.0, 0.0], {'Edema': 'exact'})
    """
    check_options(model.graph, variables=variables, hold=hold, draws=draws, seed=seed)
    action = action_of(action, values, beyond_range)
    cohort = as_cohort(cohort)
    acted, noise = acted_model(model, cohort, action, hold, beyond_range, seed)
    # The twin as a network of discrete variables; no sampling where sums are feasible.
    network = TwinNetwork.from_model(acted, noise)
    answers = level_distributions(
        network, target_variables(network, variables), noise.draws, draws
    )
    levels = [(name, level) for name in answers for level in model.graph[name].levels]
    values = [torch.zeros(len(network), 0), *(each.probabilities for each in answers.values())]
    # One column per level; an empty first tensor allows for no variable.
    table = pd.DataFrame(torch.cat(values, 1).double().numpy(), index=cohort.index)
    labels = tuple(zip(*levels, strict=True)) or ((), ())
    table.columns = pd.MultiIndex.from_arrays(labels, names=["variable", "level"])
    methods = {name: each.method for name, each in answers.items()}
    errors = {name: _largest(each.error) for name, each in answers.items()}
    return Probabilities(acted._described(), methods, errors, draws, table)


def acted_model(
    model: "SCM",
    cohort: Records,
    action: Action,
    hold: str | Iterable[str],
    beyond_range: bool,
    seed: int,
) -> tuple["SCM", Noise]:
    """Return the model under an action, and the noise of records, which is abducted on demand.

    Raises:
        CohortError, InterventionError, ModelError: As `SCM.do` and `SCM.abduct` do.
    """
    acted = model.do(action, hold=hold, beyond_range=beyond_range)
    return acted, model._latent(cohort, None, "keep", seed)


def target_variables(network: TwinNetwork, variables: str | Sequence[str] | None) -> list[str]:
    """Return the canonical names of discrete variables, by default of those that may change.

    Raises:
        InterventionError: If a variable has no levels.
        GraphError: If there is no such variable.
    """
    graph = network.graph
    if variables is None:
        return [name for name in network.moving if graph[name].is_discrete]
    names = [graph.find(name) for name in names_of(variables)]
    for name in names:
        if not graph[name].is_discrete:
            raise InterventionError(
                f"probabilities: {name!r} is {graph[name].type} and has no levels; "
                "use counterfactual(draws=...)"
            )
    return names


class LevelDistribution(NamedTuple):
    """The distribution of a twin's levels.

    Args:
        probabilities: Shape (n, K), NaN where the twin is missing with certainty.
        error: The standard error, shape (n, K); 0 where exact.
        method: "exact" or "draws".
    """

    probabilities: Tensor
    error: Tensor
    method: str


def level_distributions(
    network: TwinNetwork, targets: Sequence[str], draws: Draws, count: int
) -> dict[str, LevelDistribution]:
    """Return the distribution of each target: exact where few states allow it, else sampled.

    Args:
        network: The twins of n records.
        targets: Discrete variables.
        draws: The random numbers of the records.
        count: Samples per record where the distribution is not exact.

    Raises:
        ModelError: If `count` is below 2.
    """
    if count < 2:
        raise ModelError(f"draws={count}: a standard error needs at least 2; give 200")
    with torch.no_grad(), one_thread():
        # Variables that cannot change keep their level with certainty.
        moving = [name for name in targets if name in network.moving]
        exact = exact_distributions(network, moving)
        # Sample what has too many states to enumerate.
        rest = [name for name in moving if name not in exact]
        sampled = sampled_distributions(network, rest, draws, count)
    distributions = {}
    for name in targets:
        if name in sampled:
            distributions[name] = LevelDistribution(*sampled[name], "draws")
        else:
            p = exact[name] if name in exact else _certain(network, name)
            distributions[name] = LevelDistribution(p, torch.zeros_like(p), "exact")
    return distributions


def _certain(network: TwinNetwork, name: str) -> Tensor:
    """Return the distribution of a variable that does not change: one level, or missing."""
    twin = network.twin_column(name)
    p = (twin[:, None] == torch.arange(len(network.graph[name].levels))).double()
    return p.masked_fill(twin.isnan()[:, None], torch.nan)


def _largest(error: Tensor) -> float:
    return float(error.nan_to_num().max()) if error.numel() else 0.0
