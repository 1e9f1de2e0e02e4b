"""Opening the explorer: which model, which cohorts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from causalcxr.apps.explorer.workbench import Models, Workbench, loading
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.selection import load_cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph.graph import Graph
from causalcxr.scm.scm import SCM

__all__ = ["DEMO", "workbench_of"]

DEMO = "phantom:n=2000,seed=0"
_GRAPH = "cxr7"


def workbench_of(
    model: Path | None,
    cohorts: Sequence[str],
    out: Path,
    tell: Callable[[str], None] = print,
) -> Workbench:
    """Return the workbench of a saved model and some cohorts, or of the demo.

    Args:
        model: A fitted model's folder; None fits the demo's graph to the first cohort.
        cohorts: As the command line names them; phantoms where there are none.
        out: Where pages may write new models.
        tell: Gets what takes its time, line by line.

    Raises:
        CausalCXRError: As `SCM.load`, `load_cohort` and `SCM.fit` do.
    """
    loaded = None if model is None else SCM.load(model)
    specs = list(dict.fromkeys(cohorts)) or [DEMO]
    known = {spec: load_cohort(spec) for spec in specs}
    if loaded is not None:
        models = Models(model.resolve().name, loaded, f"cx.SCM.load({str(model)!r})")
        _check(loaded.graph, known)
        return Workbench(models, known, out)
    graph = Graph.load(_GRAPH)
    _check(graph, known)
    tell(f"fitting {_GRAPH} to {specs[0]} ...")
    code = f"cx.SCM(cx.Graph.load({_GRAPH!r})).fit({loading(specs[0])})"
    fitted = SCM(graph).fit(known[specs[0]])
    return Workbench(Models(_GRAPH, fitted, code), known, out)


def _check(graph: Graph, cohorts: dict[str, Cohort]) -> None:
    """Refuse a cohort that is empty, or that the graph cannot read, before a page does."""
    for spec, cohort in cohorts.items():
        if not len(cohort):
            raise CohortError(f"{spec}: no record; give a cohort that has some")
        cohort.columns(graph)
