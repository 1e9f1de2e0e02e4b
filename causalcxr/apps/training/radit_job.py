"""Training weights of RadiT.

The output: the weights, a card that documents them, a sheet of samples, and beside them a folder
with the checkpoint, the log and sheets of samples during the training.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import gcd
from pathlib import Path
from typing import Any

import torch

from causalcxr.apps.training.radit_config import RunConfig
from causalcxr.apps.training.radit_data import RunData, load_data, network_of, read_codec
from causalcxr.apps.training.radit_watch import Board, RunBar, held_out_losses, samples
from causalcxr.apps.training.training_curve import draw_curve, read_log
from causalcxr.apps.training.training_place import training_place
from causalcxr.apps.training.training_source import apportioned
from causalcxr.apps.training.training_truth import TruthCheck, truth_check
from causalcxr.cohort.selection import parse_spec
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import MechanismError
from causalcxr.common.files import atomic_write
from causalcxr.common.tensors import device_of, load_tensors
from causalcxr.graph.graph import Graph
from causalcxr.radit.codec import Codec
from causalcxr.radit.parallel import Processes, joined
from causalcxr.radit.precision import Precision
from causalcxr.radit.train import CHECKPOINT, LOG, train
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.weights import save_radit

__all__ = ["train_weights"]

_SHEET = 24  # images on a sheet of samples


@dataclass(frozen=True)
class _RaditRun:
    """The parts of a run."""

    config: RunConfig
    graph: Graph
    codec: Codec
    net: RadiT
    data: RunData
    device: str
    world: Processes
    truth: TruthCheck | None

    @property
    def out(self) -> Path:
        return Path(self.config.out)

    @property
    def work(self) -> Path:
        return self.out.with_suffix(".training")


def train_weights(
    config: RunConfig,
    command: str = "",
    *,
    show: bool | None = None,
    overwrite: bool = False,
) -> Path:
    """Train, and write weights, card and samples.

    Args:
        config: The run; the same call resumes an interrupted one.
        command: The command line, for the card.
        show: Show progress; by default on a terminal only.
        overwrite: Replace weights of another run, and train again from the start.

    Returns:
        The weights. After `minutes` they are those of the steps done so far, as the card says.

    Raises:
        CohortError: If the cohort has no images of this resolution to train on.
        ModelError: If there is no such size or device, or weights, codec or latents do not fit.
        MechanismError: If the loss is not finite, or memory runs out.
    """
    start, graph = time.monotonic(), Graph.load(config.graph)
    if config.threads:
        torch.set_num_threads(config.threads)
    with joined(device_of(config.device)) as (world, device):
        # Configuration and data are checked before the place is locked.
        codec = read_codec(config, device)
        net = network_of(config, graph, codec)
        data = load_data(config, graph, codec, device)
        check = truth_check(data.sources, graph, config.sides) if config.truth else None
        run = _RaditRun(config, graph, codec, net, data, device, world, check)
        place = training_place(run.out, CHECKPOINT, overwrite=overwrite)
        # Several processes train one network; only the first one writes.
        with place if world.leads else nullcontext():
            if config.workers:
                _prepare(run)
            losses = _train(run, show)
            if world.leads:
                _write(run, losses, {"command": command}, start)
    return run.out


def _prepare(run: _RaditRun) -> None:
    """Render or shrink all images that are not on the disk; processes divide them."""
    for source in run.data.sources:
        if source.kept is not None:
            part = run.world.rank, run.world.ranks
            source.kept.fill(workers=run.config.workers, part=part)


def _train(run: _RaditRun, show: bool | None) -> list[float]:
    """Train the network, with progress bar, log and sheets of samples."""
    config, leads = run.config, run.world.leads
    # Only the leading process shows progress and logs.
    board = Board(run.work / "tensorboard" if config.tensorboard and leads else None)
    with RunBar(config.training.batch, show=show if leads else False) as bar:

        def progress(step: int, steps: int, loss: float) -> None:
            speed = bar.step(step, steps, loss)
            board.add(step, {"loss": loss} | ({"images_per_second": speed} if speed else {}))

        def watch(step: int, net: RadiT) -> Mapping[str, float]:
            numbers = _watched(run, step, net)
            bar.show_truth(numbers.get("truth"))
            board.add(step, numbers)
            _draw_curve(run, {"step": step, **numbers})
            return numbers

        losses = train(
            run.net,
            run.data.images,
            run.data.columns,
            config.training,
            seed=config.seed,
            folder=run.work,
            progress=progress,
            device=run.device,
            budget=60 * config.minutes,
            watch=watch,
            watch_every=gcd(config.samples, config.truth),
            parts=run.data.parts,
        )
    board.close()
    return losses


def _watched(run: _RaditRun, step: int, net: RadiT) -> dict[str, float]:
    """Draw a sheet of samples, and return losses of held-out images and errors of twins."""
    config, numbers = run.config, {}
    if config.samples and step % config.samples == 0:
        _draw(run, net, run.work / f"samples-{step:07d}.png")
        numbers |= held_out_losses(net, run.data.sources, config.training.shift)
    if config.truth and step % config.truth == 0:
        numbers |= run.truth.errors(net, run.codec)
    return numbers


def _write(run: _RaditRun, losses: list[float], about: dict[str, Any], start: float) -> None:
    """Write weights, card and samples."""
    # From the checkpoint: a run that was resumed has more steps than it did itself.
    saved = load_tensors(run.work / CHECKPOINT)[1]
    steps = saved["step"]
    net = run.net
    save_radit(run.out, net, source=run.data.source, steps=steps)
    card = {
        **_card(run),
        **about,
        "steps_done": int(steps),
        "precision": Precision.from_header(saved).row,
        "device": f"{run.device}, {run.world.ranks} processes, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, python {platform.python_version()}",
        "minutes_of_this_run": round((time.monotonic() - start) / 60, 1),
        "loss_of_this_run": losses,
    }
    held_out = [each.held_out for each in run.data.sources if each.held_out]
    if held_out:
        losses = held_out_losses(net, run.data.sources, run.config.training.shift)
        card |= {name.replace("held_out", "held_out_loss"): x for name, x in losses.items()}
        card["held_out_images"] = sum(map(len, held_out))
    if run.truth is not None:
        card["error_of_twins_over_a_copy"] = run.truth.errors(net, run.codec)
    atomic_write(run.out.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    _draw(run, net, run.out.with_suffix(".png"))
    _draw_curve(run)


def _draw(run: _RaditRun, net: RadiT, sheet: Path) -> None:
    """Draw samples; where the solver fails, as it may early in a training, print one line."""
    try:
        shares = [each.share for each in run.data.sources]
        counts = apportioned(shares, max(_SHEET, len(shares)))
        records = [each.cohort.head(n) for each, n in zip(run.data.sources, counts, strict=True)]
        samples(net, records, run.graph, sheet, run.codec)
    except MechanismError as error:
        print(f"no {sheet.name}: {error}", file=sys.stderr, flush=True)


def _draw_curve(run: _RaditRun, *latest: Mapping[str, Any]) -> None:
    """Draw the curve of the log, and of rows that it does not have yet."""
    rows = [*read_log(run.work / LOG), *latest]
    draw_curve(rows, run.out.with_name(f"{run.out.stem}-curve.png"))


def _card(run: _RaditRun) -> dict[str, Any]:
    """Return the card of the weights that were just written."""
    config = run.config
    return {
        "weights": run.out.name,
        "sha256": file_digest(run.out),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "data": _data(run.data),
        "graph": run.graph.name,
        "graph_hash": run.graph.hash,
        "started_from": Path(config.weights).name or None,
        "codec": file_digest(Path(config.codec)) if config.codec else None,
        "network": asdict(run.net.config),
        "parameters": sum(p.numel() for p in run.net.parameters()),
        "training": asdict(config.training),
        "seed": config.seed,
        "use": "Images made with these weights are synthetic and not for clinical use.",
    }


def _data(data: RunData) -> dict[str, Any]:
    """Return the part of the card about the training records."""
    about = {"source": data.source, "records": sum(len(each.cohort) for each in data.sources)}
    if len(data.sources) == 1:
        return about | parse_spec(data.sources[0].spec)[1]
    sources = [
        {"from": each.spec, "records": n, "share": each.share, "in_a_batch": count}
        for each, (n, count) in zip(data.sources, data.parts, strict=True)
    ]
    return about | {"sources": sources}


def _commit() -> str:
    """Return the commit of the source tree, or an empty text outside of one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.strip()
