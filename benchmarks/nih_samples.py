"""Samples of weights that were fine-tuned on real radiographs: distances, and are they copies?

    python -m benchmarks nih_samples        (first 9 minutes of training on one core)

The training is `causalcxr radit train benchmarks/nih64.yaml cohort=path/to/nih`, whose weights are
kept in `runs/`. Samples under the variables of the held-out NIH patients, beside their own
radiographs and the training images, as `radit_samples` does it. The features have learned phantoms
only.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks._twins import network
from benchmarks.fit_nih import data_folder
from benchmarks.radit_samples import judged, sampled
from causalcxr import Cohort, Graph
from causalcxr.apps.training.radit_config import RunConfig, read_config
from causalcxr.apps.training.radit_job import train_weights

__all__ = ["main"]


def trained(quick: bool) -> Path:
    """Return weights that were fine-tuned on the real radiographs; those that are there stay."""
    out = Path("runs/nih-64-quick.safetensors" if quick else "runs/nih-64.safetensors")
    if not out.is_file():
        changes = [f"cohort={data_folder() / 'nih'}", f"out={out}"]
        changes += ["training.steps=4", "training.warmup=1"] if quick else []
        train_weights(read_config(Path(__file__).with_name("nih64.yaml"), RunConfig, changes))
    return out


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each; a note where the data are absent."""
    if not (data_folder() / "nih").is_dir():
        return [{"figure": "skipped: no NIH data", "value": ""}]
    graph = Graph.load("nih")
    cohort = Cohort.load(data_folder() / "nih", size=64).with_images_only()
    learned, held = cohort.split("train"), cohort.split("val")
    held = held.head(24) if quick else held
    made = sampled(network(trained(quick), graph=graph), held, graph)
    half = learned.images[:]
    return judged(made, held.images[:], half[::2], half, "nih", real=True)
