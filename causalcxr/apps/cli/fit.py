"""`causalcxr fit`: learn the structural equations of a graph from a cohort."""

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from causalcxr.apps.cli.options import CohortName, Out, Seed, graph_names

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.scm.scm import SCM

__all__ = ["FitOptions", "fit"]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What is fitted to what."""

    graph: Annotated[
        str,
        typer.Argument(
            help="A YAML file, or a bundled graph such as cxr7.", autocompletion=graph_names
        ),
    ]
    cohort: CohortName
    out: Out
    seed: Seed = 0


def fit(options: FitOptions) -> "SCM":
    """Learn the structural equations; with a model in OUT, only those that are stale."""
    from causalcxr.cohort.selection import load_cohort
    from causalcxr.common.progress import resumable
    from causalcxr.graph.graph import Graph
    from causalcxr.scm import saved_model
    from causalcxr.scm.scm import SCM

    graph, out = Graph.load(options.graph), options.out
    kept = f"a long training resumes from its last checkpoint in {out}"
    with saved_model.writing(out), resumable(kept):
        # Equations that are still valid are taken over from the saved model.
        is_saved = (out / "manifest.json").exists()
        model = SCM.load(out).with_graph(graph) if is_saved else SCM(graph)
        cohort = load_cohort(options.cohort)
        fitted = model.fit(cohort, seed=options.seed, folder=out / "training")
        # Checkpoints are removed only once the model is written.
        saved_model.write(fitted, out)
        shutil.rmtree(out / "training", ignore_errors=True)
    _print_learned(model, fitted, options)
    _warn_of_foreign_weights(fitted, cohort)
    return fitted


def _print_learned(before: "SCM", after: "SCM", options: FitOptions) -> None:
    """Print which equations were learned, and why, and which were kept."""
    from causalcxr.graph.diff import NEW
    from causalcxr.scm.fitting import learned_again

    learned = learned_again(before.fitted, after.fitted)
    kept = [name for name in after.fitted if name not in learned]
    also = f"; kept {', '.join(kept)}" if kept else ""
    print(f"{options.out}: learned {', '.join(learned) or 'nothing'}{also}")
    for name, reason in learned.items():
        if reason != NEW:
            print(f"  {name}: {reason}")
    if after.unseen:
        print(f"never observed, so they stay missing: {', '.join(sorted(after.unseen))}")


def _warn_of_foreign_weights(model: "SCM", cohort: "Cohort") -> None:
    """Print a line where the image equation keeps weights that were trained on another cohort."""
    from causalcxr.common.tensors import load_tensors

    name = model.graph.image
    if name not in model.fitted or not cohort.has_images:
        return
    mechanism = model.fitted[name].mechanism
    # With steps, the weights were trained on this cohort.
    if mechanism.options["steps"]:
        return
    source = load_tensors(mechanism.weights)[1].get("source", "another cohort")
    if cohort.source not in source:
        print(
            f"{name}: keeps the weights {mechanism.options['weights']!r}, trained on {source} and "
            f"not on {cohort.source}; give the graph 'steps' to train them on this cohort"
        )
