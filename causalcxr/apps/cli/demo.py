"""The main job on the phantom: an expert graph, counterfactual radiographs, and the truth."""

import json
import time
from pathlib import Path

import numpy as np

from causalcxr.apps.cli.jobs import show_changes
from causalcxr.apps.cli.twin_folder import TwinJob, write_twins
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.comparison import Comparison
from causalcxr.common.files import atomic_write
from causalcxr.common.result_folder import ResultFolder
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention, do
from causalcxr.scm.scm import SCM
from causalcxr.sources.phantom import truth

__all__ = ["image_error", "run"]

_TRUTH = 96  # so many twins are compared with the truth


def image_error(factual: Cohort, twins: Cohort, action: Intervention) -> dict[str, float]:
    """Compare the images of phantoms' twins with the true ones, pixel by pixel.

    Returns:
        The mean absolute difference between twin and truth, between factual image and truth (what
        a copy of the factual image would score), and their ratio.
    """
    true = truth(factual, action)
    made, real, before = (np.asarray(c.images[:]) for c in (twins, true, factual))
    error, copied = float(np.abs(made - real).mean()), float(np.abs(before - real).mean())
    return {"twin_to_truth": error, "factual_to_truth": copied, "ratio": error / copied}


def run(
    out: Path, *, n: int = 2000, images: int = 0, seed: int = 0, overwrite: bool = False
) -> None:
    """Draw phantoms, fit the equations, make the twins, write everything, say where it is.

    Args:
        out: The folder to write to; see `ResultFolder`.
        n: Number of phantoms.
        images: Twins with images; 0 for all.
        seed: Of the phantoms, the fit and the abduction.
        overwrite: Replace the demo that the folder holds, even the same one.

    Raises:
        CohortError: If the folder holds something else.
    """

    def older(path: Path) -> bool:
        return (path / "model" / "manifest.json").is_file()

    identity = {"n": n, "images": images, "seed": seed}
    result = ResultFolder(out, "causalcxr demo", "a demo", identity, overwrite, recognises=older)
    with result.writing() as draft:
        if draft.complete:
            return
        _write(draft.place, out, n, images, seed)
        draft.finish({})


def _write(place: Path, out: Path, n: int, images: int, seed: int) -> None:
    """Write the demo to a place that will be `out`."""
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:5.1f} s] {text}", flush=True)

    graph = Graph.load("cxr7")
    patients = Cohort.load("phantom", n=n, seed=seed)
    say(f"{patients!r}")
    model = SCM(graph).fit(patients, seed=seed)
    model.save(place / "model")
    graph.draw(place / "graph.png")
    say(f"{len(graph.tabular)} equations fitted; the image equation is the bundled RadiT")
    women = patients.select("Sex == 'F'")
    dry = patients.select("`Pleural Effusion` == 'N' and View != 'LATERAL'").head(12)
    job = TwinJob(model, women, do(sex="M"), seed=seed, with_images=images or None)
    _twins(job, place, out, "do-sex-M")
    say("the women had they been men: done")
    job = TwinJob(model, dry, do(pleural_effusion="P"), seed=seed)
    _twins(job, place, out, "do-pleural-effusion-P")
    print(f"  {out / 'graph.png'} the expert graph\n  {out / 'model'} the fitted model")
    say("done. Synthetic images, not for clinical use.")


def _twins(job: TwinJob, place: Path, out: Path, name: str) -> None:
    """Write the twins of a job, and how far their images are from the phantom's true twins."""
    few = min(_TRUTH, len(job.cohort), job.with_images or len(job.cohort))

    def compare(folder: Path, compared: Comparison) -> None:
        pairs = (compared.factual.head(few), compared.counterfactual.head(few))
        score = {"patients": few, **image_error(*pairs, job.action)}
        atomic_write(folder / "truth.json", json.dumps(score, indent=1) + "\n")

    result = write_twins(job, place / name, beside=compare)
    show_changes(result, job.action, out / name)
    score = json.loads((place / name / "truth.json").read_text(encoding="utf-8"))
    print(
        f"  against the true twins of {few} phantoms: mean absolute error "
        f"{score['twin_to_truth']:.4f}; a copy of the factual image has "
        f"{score['factual_to_truth']:.4f}\n"
    )
