"""Counterfactual probabilities: how likely each level of each twin is, record by record."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import InterventionError, ModelError
from causalcxr.common.random_numbers import Draws
from causalcxr.common.threads import one_thread
from causalcxr.graph.arguments import Action, names_of
from causalcxr.scm.prediction import settled
from causalcxr.scm.questions.enumeration import exact
from causalcxr.scm.questions.probabilities_result import Probabilities
from causalcxr.scm.questions.twin_distributions import Case, drawn

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["case_of", "laws_of", "probabilities", "targets_of"]

Laws = dict[str, tuple[Tensor, Tensor, str]]


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
) -> Probabilities:
    """Return P(twin = level | all that is observed of the record) for discrete variables.

    A variable whose moving ancestors are discrete and have at most 4,096 joint states is
    enumerated, so its probabilities are exact for the model. Otherwise, as where a continuous
    ancestor moves, the ancestors are drawn and the last step is in closed form.

    Args:
        model: A fitted model, with or without interventions of its own.
        cohort: Factual records.
        action: What is done, as in `SCM.counterfactual`.
        variables: Discrete variables, or one; by default those that the action can change.
        hold: Variables, or one, that keep their factual value.
        draws: Posterior draws a record, where they are needed.
        seed: Of the draws. A record's numbers do not depend on the other records.
        beyond_range: See `SCM.do`.

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
        >>> found = probabilities(SCM(graph).fit(Cohort(table)), Cohort(table), {"sex": "M"})
        >>> found
        Probabilities(do(Sex=M); 100 rows of Edema)
        >>> found.table.iloc[1].tolist(), dict(found.method)
        ([1.0, 0.0], {'Edema': 'exact'})
    """
    cohort = as_cohort(cohort)
    case, numbers = case_of(model, cohort, action, hold, beyond_range, seed)
    laws = laws_of(case, targets_of(case, variables), numbers, draws)
    levels = [(name, level) for name in laws for level in model.graph[name].levels]
    values = [torch.zeros(len(case), 0), *(law for law, _, _ in laws.values())]
    table = pd.DataFrame(torch.cat(values, 1).double().numpy(), index=cohort.index)
    labels = tuple(zip(*levels, strict=True)) or ((), ())
    table.columns = pd.MultiIndex.from_arrays(labels, names=["variable", "level"])
    methods = {name: method for name, (_, _, method) in laws.items()}
    errors = {name: _largest(error) for name, (_, error, _) in laws.items()}
    words = model.do(action, hold=hold, beyond_range=beyond_range)._told()
    return Probabilities(words, methods, errors, draws, table)


def case_of(
    model: "SCM",
    cohort: Records,
    action: Action,
    hold: str | Iterable[str],
    beyond_range: bool,
    seed: int,
) -> tuple[Case, Draws]:
    """Return what is asked of a model, and the random numbers of the records.

    A distribution that is set draws one value a record.

    Raises:
        CohortError, InterventionError, ModelError: As `SCM.do` and `SCM.abduct` do.
    """
    acted = model.do(action, hold=hold, beyond_range=beyond_range)
    noise = model._latent(cohort, None, "keep", seed)  # no noise is needed here, only the facts
    fixed = settled(model.graph, model.support, acted._action, acted._held, noise)
    mechanisms = {name: fitted.mechanism for name, fitted in model.fitted.items()}
    return Case(model.graph, mechanisms, noise.columns, fixed), noise.draws


def targets_of(case: Case, variables: str | Sequence[str] | None) -> list[str]:
    """Return the discrete variables that are asked for, by default those that can change.

    Raises:
        InterventionError: If a variable has no levels.
        GraphError: If there is no such variable.
    """
    if variables is None:
        return [name for name in case.moving if case.graph[name].is_discrete]
    found = [case.graph.find(name) for name in names_of(variables)]
    for name in found:
        if not case.graph[name].is_discrete:
            raise InterventionError(
                f"probabilities of {name!r}: it is {case.graph[name].type} and has no levels; "
                "ask for counterfactual(draws=...)"
            )
    return found


def laws_of(case: Case, targets: Sequence[str], draws: Draws, count: int) -> Laws:
    """Return for each target its law, (n, K), the standard error, (n, K), and the method.

    Raises:
        ModelError: If draws are below 2.
    """
    if count < 2:
        raise ModelError(f"draws={count}: at least 2 are needed, to tell their standard error")
    with torch.no_grad(), one_thread():
        moving = [name for name in targets if name in case.moving]
        known = exact(case, moving)
        rest = drawn(case, [name for name in moving if name not in known], draws, count)
    found: Laws = {}
    for name in targets:
        if name in rest:
            found[name] = (*rest[name], "draws")
        else:
            law = known[name] if name in known else _certain(case, name)
            found[name] = (law, torch.zeros_like(law), "exact")
    return found


def _certain(case: Case, name: str) -> Tensor:
    """Return the law of a variable that does not move: one level, or missing."""
    twin = case.twin_column(name)
    law = (twin[:, None] == torch.arange(len(case.graph[name].levels))).double()
    return law.masked_fill(twin.isnan()[:, None], torch.nan)


def _largest(error: Tensor) -> float:
    return float(error.nan_to_num().max()) if error.numel() else 0.0
