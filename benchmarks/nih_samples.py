"""Samples of weights that were fine-tuned on real radiographs: distances, and are they copies?

    causalcxr radit train benchmarks/nih64.yaml cohort=path/to/nih      (once)
    python -m benchmarks nih_samples

Samples under the variables of the held-out NIH patients, beside their own radiographs and the
training images, as `radit_samples` does it. The features have learned phantoms only.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks._twins import network
from benchmarks.fit_nih import data_folder
from benchmarks.radit_samples import judged, sampled
from causalcxr import Cohort, Graph

__all__ = ["main"]

_WEIGHTS = Path("runs/nih-64.safetensors")


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each; a note where data or weights are absent."""
    if not (data_folder() / "nih").is_dir() or not _WEIGHTS.is_file():
        return [{"figure": f"skipped: no NIH data, or no {_WEIGHTS}", "value": ""}]
    graph = Graph.load("nih")
    cohort = Cohort.load(data_folder() / "nih", size=64).with_images_only()
    learned, held = cohort.split("train"), cohort.split("val")
    held = held.head(64) if quick else held
    made = sampled(network(_WEIGHTS, graph=graph), held, graph)
    half = learned.images[:]
    return judged(made, held.images[:], half[::2], half, "nih", real=True)
