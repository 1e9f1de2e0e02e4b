"""Training weights that stand on their own.

What is written: the weights, a card that says where they come from, a sheet of samples, and beside
them a folder with the checkpoint and the log of the training.
"""

import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import adopt_weights, resolve, save_radit
from causalcxr.tensors import load_tensors, sha256

__all__ = ["WeightsJob", "samples", "train_weights"]


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
    config: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    device: str = "auto"
    minutes: float = float("inf")


def train_weights(job: WeightsJob, command: str, *, show: bool | None = None) -> Path:
    """Train, and write weights, card and samples.

    Args:
        job: What to do; a job that was interrupted is taken up again by the same call.
        command: The words that a person typed, for the card.
        show: Show progress; by default on a terminal only.

    Returns:
        The weights. After `minutes` they are those of the steps done so far, as the card says.

    Raises:
        CohortError: If the cohort has no images of this resolution to train on.
        ModelError: If there is no such size or device, or the starting weights do not fit.
        MechanismError: If the loss is not finite.
    """
    begun, graph, device = time.monotonic(), Graph.load(job.graph), _device(job.device)
    net, cohort = _network(job, graph), _cohort(job)
    films, columns = cohort.images.in_memory(), _columns(net, cohort, graph)
    work = job.out.with_suffix(".training")
    with FitProgress([job.out.name], show=show) as bar:
        losses = train(
            net,
            lambda rows: torch.from_numpy(films[rows.numpy()]) * 2 - 1,
            columns,
            job.config,
            seed=job.seed,
            folder=work,
            progress=bar.step,
            device=device,
            budget=60 * job.minutes,
        )
    steps = load_tensors(work / "checkpoint.safetensors")[1]["step"]
    net = net.cpu()
    save_radit(job.out, net, source=cohort.source, steps=steps)
    card = _card(job, net, graph, cohort) | {
        "command": command,
        "steps_done": int(steps),
        "device": f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"python {platform.python_version()}",
        "minutes_of_this_run": round((time.monotonic() - begun) / 60, 1),
        "loss_of_this_run": losses,
    }
    atomic_write(job.out.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    samples(net, cohort.head(24), graph, job.out.with_suffix(".png"))
    return job.out


def samples(net: RadiT, like: Cohort, graph: Graph, path: Path) -> None:
    """Draw new images under the variables of some records, captioned with what they show.

    Args:
        net: A trained network.
        like: The records whose variables are used.
        graph: What the variables mean.
        path: The PNG to write.
    """
    equation = ImageEquation(net, _columns(net, like, graph), steps=24)
    draws = Draws(record_keys(like.records), seed=1, stream="samples")
    images = equation.predict(equation.sample_noise(draws)).clamp(0, 1).float().numpy()
    captions = [_caption(graph, row) for _, row in like.table.iterrows()]
    contact_sheet(images, captions, columns=6, path=path)


def _device(name: str) -> str:
    """Return the device to train on; "auto" takes a graphics card where there is one."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "auto":
        return best
    if name.partition(":")[0] not in ("cpu", best):
        raise ModelError(f"device {name!r} is not to be had here; use auto or {best}")
    return name


def _network(job: WeightsJob, graph: Graph) -> RadiT:
    """Return the network as training starts with it."""
    if graph.image is None:
        raise ModelError(f"graph {graph.name!r} has no image variable to train")
    variables = [graph[p] for p in graph[graph.image].parents]
    config = RadiTConfig.of(job.size, job.resolution)
    if job.weights:
        return adopt_weights(resolve(job.weights, job.resolution), config, variables)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        return RadiT(config, variables)


def _cohort(job: WeightsJob) -> Cohort:
    """Return the records to learn from: those with an image, of the training split if any."""
    cohort = Cohort.load(job.cohort, **{"size": job.resolution, **job.options})
    cohort = cohort.with_images_only()
    cohort = cohort if cohort.splits is None else cohort.split("train")
    if not len(cohort):
        raise CohortError(f"{job.cohort}: no images to train on")
    side = (job.resolution, job.resolution)
    if cohort.images.size != side:
        raise CohortError(
            f"{job.cohort}: images are {cohort.images.size[0]} x {cohort.images.size[1]} pixels, "
            f"the network is for {side[0]} x {side[1]}; leave out size, or change the resolution"
        )
    return cohort


def _columns(net: RadiT, cohort: Cohort, graph: Graph) -> dict[str, torch.Tensor]:
    """Return the variables that the network reads, (n,) each."""
    columns = cohort.columns(graph)
    return {name: torch.from_numpy(columns[name]) for name in net.conditioner.names}


def _card(job: WeightsJob, net: RadiT, graph: Graph, cohort: Cohort) -> dict[str, Any]:
    """Return what to know of weights that were just written."""
    return {
        "weights": job.out.name,
        "sha256": sha256(job.out),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "data": {"source": cohort.source, "records": len(cohort), **job.options},
        "graph": graph.name,
        "graph_hash": graph.hash,
        "started_from": Path(job.weights).name or None,
        "network": asdict(net.config),
        "parameters": sum(p.numel() for p in net.parameters()),
        "training": asdict(job.config),
        "seed": job.seed,
        "use": "Images made with these weights are synthetic and not for clinical use.",
    }


def _commit() -> str:
    """Return the commit of the source tree, or an empty text outside of one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def _caption(graph: Graph, row: pd.Series) -> str:
    """Return the values of a record, and the names of the findings that it has."""
    words = []
    for name in graph.order:
        variable = graph[name]
        if variable.is_image or variable.mechanism.kind == "derived" or pd.isna(row.get(name)):
            continue  # a derived variable repeats what the others say
        if variable.type == "binary" and graph.parents(name) and variable.levels == ("N", "P"):
            words += [name] if row[name] == "P" else []
        else:
            words.append(f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]))
    return ", ".join(words)
