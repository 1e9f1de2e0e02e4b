"""The main job on the phantom: from an expert graph to counterfactual radiographs, with the truth beside them."""

import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError
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
        The mean absolute difference twin - truth, that of the factual image - truth (which a copy of the factual would
        score), and their ratio.
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
    """
    if out.exists() and any(out.iterdir()) and not (out / "model").exists():
        raise CohortError(f"{out}: not empty and no earlier demo; give another folder with --out")
    console, begun = Console(soft_wrap=True), time.monotonic()

    def say(text: str) -> None:
        console.print(Text(f"[{time.monotonic() - begun:5.1f} s] {text}"))

    graph = Graph.load("cxr7")
    graph.draw(out / "graph.png")
    patients = Cohort.load("phantom", n=n, seed=seed)
    say(f"{patients}")
    model = SCM(graph).fit(patients, seed=seed)
    model.save(out / "model")
    say(f"fitted {len(model.fitted)} equations ({len(graph.tabular)} of the table, one of the image)")
    women = patients.select("Sex == 'F'")
    healthy = patients.select("`Pleural Effusion` == 'N' and View != 'LATERAL'").head(12)
    jobs = {
        "do-sex-M": (women, do(sex="M"), images or None),
        "do-pleural-effusion-P": (healthy, do(pleural_effusion="P"), None),
    }
    for name, (cohort, action, limit) in jobs.items():
        job = TwinJob(model, cohort, action, seed=seed, with_images=limit)
        result = write_twins(job, out / name)
        say(f"{name}: done")
        show_changes(result, action, out / name)
        few = min(_TRUTH, len(cohort), limit or len(cohort))
        factual, twins = result.compared.factual.head(few), result.compared.counterfactual.head(few)
        score = image_error(factual, twins, action)
        (out / name / "truth.json").write_text(json.dumps(score, indent=1) + "\n")
        console.print(Text(
            f"  against the phantom's true twins (first {few}): mean absolute error {score['twin_to_truth']:.4f}; a copy of the"
            f" factual image has {score['factual_to_truth']:.4f}\n"
        ))
    console.print(Text(f"  {out / 'graph.png'}", style="bold"), Text("the expert graph"))
    console.print(Text(f"  {out / 'model'}", style="bold"), Text("the fitted model"))
    say("Synthetic images, not for clinical use.")
