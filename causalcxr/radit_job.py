"""Training weights that stand on their own: a network, a card that says where it comes from, a sheet of samples."""

import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from causalcxr.cohort import Cohort
from causalcxr.contact_sheet import contact_sheet
from causalcxr.errors import CohortError, ModelError
from causalcxr.files import atomic_write
from causalcxr.fitting_progress import FitProgress
from causalcxr.graph import Graph
from causalcxr.mechanisms.image import ImageEquation
from causalcxr.noise import Draws, record_keys
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import SIZES, RadiT, RadiTConfig
from causalcxr.radit.weights import adopt_weights, resolve, save_radit
from causalcxr.tensors import sha256

__all__ = ["WeightsJob", "train_weights"]


@dataclass(frozen=True)
class WeightsJob:
    """What to train, on what, and where it goes.

    Args:
        cohort: What `Cohort.load` reads, such as "phantom".
        options: What that source takes, such as n and seed.
        graph: A graph whose image variable names the parents.
        out: The safetensors file to write; the card and the samples stand beside it.
        size: The size of the network.
        resolution: Pixels along each side.
        weights: Weights to start from.
        config: How to train.
        seed: Of the initial weights and of the training.
        device: "cpu", "cuda", or "auto".
        minutes: Stop after so long and leave a checkpoint; the same command goes on from it.
    """

    cohort: str
    options: dict
    graph: str
    out: Path
    size: str = "tiny"
    resolution: int = 64
    weights: str = ""
    config: TrainConfig = TrainConfig()
    seed: int = 0
    device: str = "auto"
    minutes: float = float("inf")


def _network(job: WeightsJob, graph: Graph) -> RadiT:
    if graph.image is None:
        raise ModelError(f"graph {graph.name!r} has no image variable to train")
    variables = [graph[p] for p in graph[graph.image].parents]
    config = RadiTConfig(
        resolution=job.resolution, patch=max(2, job.resolution // 8), **SIZES[job.size]
    )
    if job.weights:
        return adopt_weights(resolve(job.weights, job.resolution), config, variables)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        return RadiT(config, variables)


def _commit() -> str:
    """Return the commit of the source tree, or an empty text outside of one."""
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def train_weights(job: WeightsJob, command: str, *, show: bool | None = None) -> Path:
    """Train, and write weights, card and samples.

    Args:
        job: What to do; a job that was interrupted is taken up again by the same call.
        command: The words that a person typed, for the card.
        show: Show progress; by default on a terminal only.

    Raises:
        CohortError: If the cohort has no images, or none of this resolution.
    """
    graph = Graph.load(job.graph)
    net = _network(job, graph)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if job.device == "auto" else job.device
    cohort = Cohort.load(job.cohort, size=job.resolution, **job.options)
    if not cohort.has_images:
        raise CohortError(f"{job.cohort}: no images to train on")
    cohort = cohort.with_images_only()
    cohort = cohort if cohort.splits is None else cohort.split("train")
    films, begun = cohort.images, time.monotonic()
    columns = {n: torch.from_numpy(v) for n, v in cohort.columns(graph).items()}
    columns = {n: columns[n] for n in net.conditioner.names}
    work = job.out.with_suffix(".training")
    work.mkdir(parents=True, exist_ok=True)
    with FitProgress([job.out.name], show=show) as bar:
        losses = train(
            net, lambda rows: torch.from_numpy(films[rows.numpy()]) * 2 - 1, columns, job.config,
            seed=job.seed, folder=work, progress=bar.step, device=device, budget=60 * job.minutes,
        )
    net = net.cpu()
    save_radit(job.out, net, source=cohort.source, steps=str(job.config.steps))
    card = {
        "weights": job.out.name, "sha256": sha256(job.out), "command": command, "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "data": {"source": cohort.source, "records": len(cohort), **job.options},
        "graph": graph.name, "graph_hash": graph.hash, "network": asdict(net.config),
        "parameters": sum(p.numel() for p in net.parameters()), "training": asdict(job.config), "seed": job.seed,
        "device": f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, python {platform.python_version()}",
        "minutes_of_this_run": round((time.monotonic() - begun) / 60, 1), "loss_of_this_run": losses,
        "use": "Images made with these weights are synthetic and not for clinical use.",
    }
    atomic_write(job.out.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    samples(net, cohort.head(24), graph, job.out.with_suffix(".png"))
    return job.out


def samples(net: RadiT, like: Cohort, graph: Graph, path: Path) -> None:
    """Draw new images under the variables of some records, captioned with what they show."""
    columns = {n: torch.from_numpy(v) for n, v in like.columns(graph).items()}
    columns = {n: columns[n] for n in net.conditioner.names}
    equation = ImageEquation(net, columns, steps=24)
    draws = Draws(record_keys(like.records), seed=1, stream="samples")
    images = equation.predict(equation.sample_noise(draws)).clamp(0, 1).float().numpy()
    contact_sheet(images, [_caption(graph, row) for _, row in like.table.iterrows()], columns=6, path=path)


def _caption(graph: Graph, row: pd.Series) -> str:
    """Return the values of a record, and the names of the findings that it has."""
    words = []
    for name in graph.order:
        variable = graph[name]
        if variable.is_image or variable.mechanism.kind == "derived" or pd.isna(row.get(name)):
            continue
        if variable.type == "binary" and graph.parents(name) and variable.levels == ("N", "P"):
            words += [name] if row[name] == "P" else []
        else:
            words.append(f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]))
    return ", ".join(words)
