"""Calibration of weights on a cohort, as the command line runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalcxr.apps.training.radit_data import variables_of
from causalcxr.apps.training.training_source import parent_columns
from causalcxr.cohort.selection import load_cohort
from causalcxr.common.errors import ModelError
from causalcxr.graph.graph import Graph
from causalcxr.images.shrunk_images import shrunk
from causalcxr.radit.calibration import calibrate
from causalcxr.radit.codec import Pixels
from causalcxr.radit.vae_weights import load_codec
from causalcxr.radit.weights import add_to_header, adopt_weights, resolve_file

__all__ = ["CalibrationRun", "calibrate_weights"]


@dataclass(frozen=True, kw_only=True)
class CalibrationRun:
    """What to calibrate, and on which images.

    Args:
        weights: The full name of bundled weights, such as "phantom-64", or a file.
        cohort: As the command line names a cohort.
        out: The file of weights to write.
        graph: A graph, whose image has the variables.
        codec: The autoencoder of weights for latents.
        records: How many records get another value of each variable.
        seed: Seed of the noise.
    """

    weights: str
    cohort: str
    out: Path
    graph: str = "cxr7"
    codec: Path | None = None
    records: int = 64
    seed: int = 0


def calibrate_weights(run: CalibrationRun, *, overwrite: bool = False) -> list[dict[str, Any]]:
    """Calibrate weights, and write them with the calibration in their header.

    Args:
        run: What to calibrate.
        overwrite: Replace a file.

    Returns:
        A row a variable, see `Calibration.rows`.

    Raises:
        CohortError: If the cohort cannot be read, or its images are too small.
        ModelError: If the weights cannot be read, the file exists, or there are no images.
    """
    if run.out.exists() and not overwrite:
        raise ModelError(f"{run.out}: exists; choose another file, or add --overwrite")
    # The network, for the variables of the graph.
    path, graph = resolve_file(run.weights), Graph.load(run.graph)
    variables = variables_of(graph)
    net = adopt_weights(path, None, variables).eval().requires_grad_(False)
    config = net.config
    codec = load_codec(run.codec) if run.codec else Pixels()
    if codec.channels != config.channels:
        raise ModelError(
            f"{run.weights}: weights for {config.channels} channels, and the codec has "
            f"{codec.channels}; give the autoencoder that they were trained with as --codec"
        )
    # Observed images at the size of the network.
    cohort = load_cohort(run.cohort).with_images_only()
    height, width = (side * codec.factor for side in config.size)
    images = shrunk(cohort.images, (height, width))
    columns = parent_columns(cohort, graph)

    @torch.no_grad()
    def latents(rows: Tensor) -> Tensor:
        return codec.encode(2 * torch.from_numpy(images[rows.numpy()]).float() - 1)

    calibration = calibrate(net, variables, latents, columns, records=run.records, seed=run.seed)
    run.out.parent.mkdir(parents=True, exist_ok=True)
    add_to_header(path, run.out, calibration=calibration.to_json())
    return calibration.rows()
