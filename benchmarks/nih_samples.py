"""Samples of weights fine-tuned on real radiographs: their fidelity, and whether they are copies.

    python -m benchmarks nih_samples        (the first run trains for 16 minutes on one core)

The training is `causalcxr radit train benchmarks/nih64.yaml cohort=path/to/nih`; its weights are
saved in `runs/`. Samples given the variables of held-out NIH patients are compared with the
patients' own radiographs and with the training images, as in `radit_samples`. The features were
learned from phantoms only.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks._image_twins import load_network
from benchmarks.fit_nih import data_folder
from benchmarks.radit_samples import compare_samples, draw_samples
from causalcxr import Cohort, Graph
from causalcxr.apps.training.radit_config import RunConfig, read_config
from causalcxr.apps.training.radit_job import train_weights

__all__ = ["main"]


def trained_weights(quick: bool) -> Path:
    """Return weights fine-tuned on the real radiographs; existing weights are used as they are."""
    out = Path("runs/nih-64-quick.safetensors" if quick else "runs/nih-64.safetensors")
    if not out.is_file():
        changes = [f"cohort={data_folder() / 'nih'}:size=64", f"out={out}"]
        changes += (
            ["training.steps=4", "training.warmup=1", "training.compile=false"] if quick else []
        )
        train_weights(read_config(Path(__file__).with_name("nih64.yaml"), RunConfig, changes))
    return out


def main(quick: bool = False) -> list[Row]:
    """Return one row per measure, or a note if the data are missing."""
    if not (data_folder() / "nih").is_dir():
        return [{"figure": "skipped: no NIH data", "value": ""}]
    graph = Graph.load("nih")
    cohort = Cohort.load(data_folder() / "nih", size=64).with_images_only()
    training, held_out = cohort.split("train"), cohort.split("val")
    held_out = held_out.head(24) if quick else held_out
    samples = draw_samples(load_network(trained_weights(quick), graph=graph), held_out, graph)
    images = training.images[:]
    return compare_samples(samples, held_out.images[:], images[::2], images, "nih", real=True)
