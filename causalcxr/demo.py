"""The main job on the phantom: an expert graph, counterfactual radiographs, and the truth."""

import json
import time
from pathlib import Path

import numpy as np

from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError
from causalcxr.files import atomic_write
from causalcxr.graph import Graph
from causalcxr.interventions import Intervention, do
from causalcxr.jobs import show_changes
from causalcxr.scm import SCM
from causalcxr.sources.phantom import truth
from causalcxr.twin_folder import TwinJob, write_twins

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


def run(out: Path, *, n: int = 2000, images: int = 0, seed: int = 0) -> None:
    """Draw phantoms, fit the equations, make the twins, write everything, say where it is.

    Args:
        out: The folder to write to: new, or of an earlier demo.
        n: Number of phantoms.
        images: Twins with images; 0 for all.
        seed: Of the phantoms, the fit and the abduction.

    Raises:
        CohortError: If the folder holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "model").exists():
        raise CohortError(f"{out}: not empty and no earlier demo; give another folder with --out")
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:5.1f} s] {text}", flush=True)

    graph = Graph.load("cxr7")
    patients = Cohort.load("phantom", n=n, seed=seed)
    say(f"{patients!r}")
    model = SCM(graph).fit(patients, seed=seed)
    model.save(out / "model")
    graph.draw(out / "graph.png")
    say(f"{len(graph.tabular)} equations fitted; the image equation is the bundled RadiT")
    women = patients.select("Sex == 'F'")
    dry = patients.select("`Pleural Effusion` == 'N' and View != 'LATERAL'").head(12)
    _twins(
        TwinJob(model, women, do(sex="M"), seed=seed, with_images=images or None), out / "do-sex-M"
    )
    say("the women had they been men: done")
    _twins(TwinJob(model, dry, do(pleural_effusion="P"), seed=seed), out / "do-pleural-effusion-P")
    print(f"  {out / 'graph.png'} the expert graph\n  {out / 'model'} the fitted model")
    say("done. Synthetic images, not for clinical use.")


def _twins(job: TwinJob, folder: Path) -> None:
    """Write the twins of a job, and how far their images are from the phantom's true twins."""
    result = write_twins(job, folder)
    show_changes(result, job.action, folder)
    few = min(_TRUTH, len(job.cohort), job.with_images or len(job.cohort))
    pairs = (result.compared.factual.head(few), result.compared.counterfactual.head(few))
    score = image_error(*pairs, job.action)
    atomic_write(folder / "truth.json", json.dumps({"patients": few, **score}, indent=1) + "\n")
    print(
        f"  against the true twins of {few} phantoms: mean absolute error "
        f"{score['twin_to_truth']:.4f}; a copy of the factual image has "
        f"{score['factual_to_truth']:.4f}\n"
    )
