"""Start the explorer: load the model and the cohorts, or fit the demo."""

from collections.abc import Callable, Sequence
from pathlib import Path

from causalcxr.apps.explorer.workspace import Models, Workspace, loading_code
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.selection import load_cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph.graph import Graph
from causalcxr.scm.scm import SCM

__all__ = ["DEMO", "open_workspace"]

DEMO = "phantom:n=2000,seed=0"
_GRAPH = "cxr7"


def open_workspace(
    model: Path | None,
    cohorts: Sequence[str],
    out: Path,
    report: Callable[[str], None] = print,
) -> Workspace:
    """Return the workspace of a saved model and some cohorts, or of the demo.

    Args:
        model: The folder of a fitted model; None fits the demo's graph to the first cohort.
        cohorts: As the command line names them; phantoms by default.
        out: Where pages may write new models.
        report: Called with one line before each slow step.

    Raises:
        CausalCXRError: As `SCM.load`, `load_cohort` and `SCM.fit` do.
    """
    loaded = None if model is None else SCM.load(model)
    # Without a cohort, the demo's; one that is named twice is loaded once.
    specs = list(dict.fromkeys(cohorts)) or [DEMO]
    by_spec = {spec: load_cohort(spec) for spec in specs}
    if loaded is not None:
        models = Models(model.resolve().name, loaded, f"cx.SCM.load({str(model)!r})")
        _check(loaded.graph, by_spec)
        return Workspace(models, by_spec, out)
    # Without a model, one is fitted to the first cohort.
    graph = Graph.load(_GRAPH)
    _check(graph, by_spec)
    report(f"fitting {_GRAPH} to {specs[0]} ...")
    code = f"cx.SCM(cx.Graph.load({_GRAPH!r})).fit({loading_code(specs[0])})"
    demo = SCM(graph).fit(by_spec[specs[0]])
    return Workspace(Models(_GRAPH, demo, code), by_spec, out)


def _check(graph: Graph, cohorts: dict[str, Cohort]) -> None:
    """Refuse empty cohorts, and cohorts that do not fit the graph, before a page is served."""
    for spec, cohort in cohorts.items():
        if not len(cohort):
            raise CohortError(f"{spec}: the cohort has no records; give one that has records")
        cohort.columns(graph)
