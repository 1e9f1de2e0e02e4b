"""`causalcxr demo`: from an expert graph to counterfactual images of phantoms, and the truth."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalcxr.apps.cli.options import Overwrite, Seed

if TYPE_CHECKING:
    from causalcxr.apps.cli.twin_job import TwinJob
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.cohort.comparison import Comparison
    from causalcxr.graph.interventions import Intervention

__all__ = ["DemoOptions", "demo"]

_SCORED = 96  # twins that are compared with the truth, at most


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How many phantoms, and where everything is written."""

    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo")
    n: Annotated[int, typer.Option(help="Number of phantoms.")] = 2000
    images: Annotated[int, typer.Option(help="Twins with images; 0 for all.")] = 0
    seed: Seed = 0
    overwrite: Overwrite = False


def demo(options: DemoOptions) -> None:
    """From an expert graph to twins: phantoms, fit, do(sex=M), do(pleural_effusion=P)."""
    from causalcxr.common.result_folder import ResultFolder

    # A folder without a manifest of its own, but with that of a model, is a demo of version 0.1.0.
    def is_older(path: Path) -> bool:
        return (path / "model" / "manifest.json").is_file()

    identity = {"n": options.n, "images": options.images, "seed": options.seed}
    result = ResultFolder(
        options.out,
        "causalcxr demo",
        "a demo",
        identity,
        options.overwrite,
        recognises=is_older,
    )
    with result.writing() as draft:
        if draft.complete:
            return
        _write(draft.place, options)
        draft.finish({})


def _write(place: Path, options: DemoOptions) -> None:
    """Write the demo to a place that will be `options.out`."""
    from causalcxr.apps.cli.twin_job import TwinJob
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.graph.graph import Graph
    from causalcxr.graph.interventions import do
    from causalcxr.scm.scm import SCM

    say, out, seed = _clock(), options.out, options.seed
    # The expert graph, fitted to the tables of phantoms.
    graph = Graph.load("cxr7")
    patients = Cohort.load("phantom", n=options.n, seed=seed)
    say(f"{patients!r}")
    model = SCM(graph).fit(patients, seed=seed)
    model.save(place / "model")
    graph.draw(place / "graph.png")
    say(f"{len(graph.tabular)} equations fitted; the image equation is the bundled RadiT")
    # Two questions: of sex for the women, of an effusion for patients without one.
    women = patients.select("Sex == 'F'")
    dry = patients.select("`Pleural Effusion` == 'N' and View != 'LATERAL'").head(12)
    job = TwinJob(model, women, do(sex="M"), seed=seed, with_images=options.images or None)
    _write_twins(job, place, out, "do-sex-M")
    say("twins of the women under do(sex=M): done")
    job = TwinJob(model, dry, do(pleural_effusion="P"), seed=seed)
    _write_twins(job, place, out, "do-pleural-effusion-P")
    print(f"  {out / 'graph.png'} the expert graph\n  {out / 'model'} the fitted model")
    say("done. Synthetic images, not for clinical use.")


def _clock() -> Callable[[str], None]:
    """Return a function that prints a line after the seconds since this call."""
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {text}", flush=True)

    return say


def _write_twins(job: "TwinJob", place: Path, out: Path, name: str) -> None:
    """Write the twins of a job, and how far their images are from the phantom's true twins."""
    from causalcxr.apps.cli.counterfactual import print_changes
    from causalcxr.apps.cli.twin_folder import write_twins
    from causalcxr.common.files import atomic_write

    # The true twins are rendered by the phantom, so only some are compared.
    n = min(_SCORED, len(job.cohort), job.with_images or len(job.cohort))

    def write_score(folder: Path, compared: "Comparison") -> None:
        sides = (compared.factual.head(n), compared.counterfactual.head(n))
        score = {"patients": n, **_image_error(*sides, job.action)}
        atomic_write(folder / "truth.json", json.dumps(score, indent=1) + "\n")

    # The score is written with the twins, so that a resumed demo has it.
    result = write_twins(job, place / name, beside=write_score)
    print_changes(result, job.action, out / name)
    score = json.loads((place / name / "truth.json").read_text(encoding="utf-8"))
    print(
        f"  compared with the true twins of {n} phantoms: mean absolute error "
        f"{score['twin_to_truth']:.4f}; a copy of the factual image has "
        f"{score['factual_to_truth']:.4f}\n"
    )


def _image_error(factual: "Cohort", twins: "Cohort", action: "Intervention") -> dict[str, float]:
    """Compare the images of phantoms' twins with the true ones, pixel by pixel.

    Returns:
        The mean absolute difference between twin and truth, between factual image and truth (the
        error of a copy of the factual image), and their ratio.
    """
    import numpy as np

    from causalcxr.sources.phantom import truth

    true = truth(factual, action)
    twin, real, before = (np.asarray(cohort.images[:]) for cohort in (twins, true, factual))
    error, copied = float(np.abs(twin - real).mean()), float(np.abs(before - real).mean())
    return {"twin_to_truth": error, "factual_to_truth": copied, "ratio": error / copied}
