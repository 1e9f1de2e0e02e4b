"""Training the features on a cohort's own labels, cross-fitted by patient.

One network learns from all patients, and one for each fold from all patients outside it. So every
patient has a network that has never seen them, and a reader of attributes that stands on it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.splits import draw_folds
from causalcxr.common.errors import ModelError
from causalcxr.common.progress import Progress
from causalcxr.graph.graph import Graph
from causalcxr.radit.batches import EPOCHS, BatchOrder
from causalcxr.radit.checkpoint import (
    exclusive_folder,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from causalcxr.radit.config_checks import check_fractions, check_least, check_not_negative
from causalcxr.radit.features import CrossFittedFeatures, Features, load_features
from causalcxr.radit.schedule import average_decay, lr_share

__all__ = ["FeaturesConfig", "feature_targets", "train_features"]

_FEW = 20  # records of a level, and of the others, that a target needs
_SAVE_EVERY = 30.0  # seconds between checkpoints
_RUNS = 2**20  # keeps the seeds of the networks of one training apart


@dataclass(frozen=True)
class FeaturesConfig:
    """The configuration of training features.

    Args:
        epochs: Passes over the images, for each network.
        batch: Images per step.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay.
        turn: Largest rotation of a training image, in degrees.
        scale: Largest change of its size, as a share.
        shift: Largest shift, as a share of its side.
        contrast: Standard deviation of the logarithm of the exponent of its grey levels.
        average: Decay of the moving average of the weights, per step.
        folds: Folds of patients, at least 2.

    Raises:
        MechanismError: If a value is not allowed.
    """

    epochs: int = 20
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.05
    turn: float = 7.0
    scale: float = 0.1
    shift: float = 0.06
    contrast: float = 0.2
    average: float = 0.99
    folds: int = 5

    def __post_init__(self) -> None:
        check_least(self, {"epochs": 1, "batch": 1, "folds": 2})
        check_not_negative(self, ("lr", "weight_decay", "turn", "contrast"))
        check_fractions(self, ("scale", "shift", "average"))


@dataclass(frozen=True, eq=False)
class Targets:
    """What the features learn to predict.

    Args:
        names: A variable and one of its levels; the level of a number is "".
        values: Shape (n, k): 0 or 1, a standardised number, or NaN where it is missing.
    """

    names: tuple[tuple[str, str], ...]
    values: Tensor

    @property
    def is_number(self) -> Tensor:
        """Which targets are numbers, (k,)."""
        return torch.tensor([level == "" for _, level in self.names])


def feature_targets(cohorts: Sequence[Cohort], graph: Graph) -> Targets:
    """Return the targets of all records: every level and number that varies enough.

    Args:
        cohorts: One or several cohorts; variables that one of them lacks are missing there.
        graph: The graph, whose tabular variables are targets.

    Raises:
        ModelError: If no variable has 20 records with a level and 20 without it.
    """
    columns = [cohort.columns(graph) for cohort in cohorts]
    names, values = [], []
    for name in graph.tabular:
        y = np.concatenate([part[name] for part in columns])
        known = ~np.isnan(y)
        if not graph[name].is_discrete:
            if known.sum() >= _FEW and y[known].std() > 0:
                names.append((name, ""))
                values.append((y - y[known].mean()) / y[known].std())
            continue
        levels = graph[name].levels
        # Of two levels one is enough: the other is its complement.
        for k in range(1 if len(levels) == 2 else 0, len(levels)):
            positives = (y == k).sum()
            if min(positives, known.sum() - positives) >= _FEW:
                names.append((name, levels[k]))
                values.append(np.where(known, y == k, np.nan))
    if not names:
        raise ModelError(
            f"features: no variable has {_FEW} records with a level and {_FEW} without it; give "
            "more records"
        )
    return Targets(tuple(names), torch.from_numpy(np.stack(values, 1)).float())


def train_features(
    cohort: Cohort | Sequence[Cohort],
    graph: Graph,
    config: FeaturesConfig | None = None,
    *,
    start: Features | None = None,
    seed: int = 0,
    folder: Path | None = None,
    budget: float = float("inf"),
) -> CrossFittedFeatures | None:
    """Train features on the labels of a cohort, from the bundled ones.

    Args:
        cohort: Records with images of one size; several cohorts are learned together.
        graph: The graph, whose tabular variables are learned.
        config: The configuration.
        start: The features to start from; by default the bundled ones.
        seed: Seed of the folds, the order and the changes of the training images.
        folder: The folder of checkpoints; an interrupted training there is resumed.
        budget: Seconds after which the training stops early; call again to resume.

    Returns:
        The features; None if the budget ended first.

    Raises:
        ModelError: If there are no images, no variable varies enough, a fold is empty, or the
            folder holds a training of other records or settings.
    """
    cohorts = [cohort] if isinstance(cohort, Cohort) else list(cohort)
    config, until = config or FeaturesConfig(), time.monotonic() + budget
    if any(each.images is None or not len(each) for each in cohorts):
        raise ModelError("features: the cohort has no images; load it with images")
    targets = feature_targets(cohorts, graph)
    parts = [draw_folds(each.patients, config.folds, seed) for each in cohorts]
    folds = torch.from_numpy(np.concatenate(parts))
    if len(folds.unique()) < config.folds:
        raise ModelError(
            f"features: a fold of the {config.folds} has no patient; give more patients or fewer "
            "folds"
        )
    pixels = _grey_levels(cohorts)
    start, networks = start or load_features(), []
    # One network without each fold, then one with all patients.
    choices = [folds != k for k in range(config.folds)] + [
        torch.ones_like(folds, dtype=torch.bool)
    ]
    total = sum(_steps(int(rows.sum()), config) for rows in choices)
    with (
        exclusive_folder(folder) if folder else nullcontext(),
        Progress("Training the features", total, "steps") as count,
    ):
        for k, chosen in enumerate(choices):
            rows = torch.nonzero(chosen)[:, 0]
            run = _Run(start, targets, config, seed * _RUNS + k, rows)
            checkpoint = folder / f"network-{k}.safetensors" if folder else None
            if not run.train(pixels, checkpoint, until, count.add):
                return None
            networks.append(run.features(tuple(pixels.shape[-2:])))
    return CrossFittedFeatures(networks[-1], tuple(networks[:-1]), seed)


class _Run:
    """The training of one network: weights, their average, the optimiser, the step."""

    def __init__(
        self, start: Features, targets: Targets, config: FeaturesConfig, seed: int, rows: Tensor
    ) -> None:
        self.config, self.seed, self.rows, self.step = config, seed, rows, 0
        self.values, self.is_number = targets.values, targets.is_number
        self.network = nn.ModuleDict({"features": Features()})
        self.network["features"].load_state_dict(start.state_dict())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network["head"] = nn.Linear(192, len(targets.names))
        self.network.requires_grad_(True).train()
        self.steps = _steps(len(rows), config)
        self.identity = run_identity(
            (config, seed, targets.names),
            self.network.state_dict(),
            {"rows": rows, "values": targets.values},
        )
        self.average = {k: v.detach().clone() for k, v in self.network.named_parameters()}
        self.adam = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )

    def features(self, size: tuple[int, int]) -> Features:
        """Return the features of images of a size, with the averaged weights."""
        features = Features(size)
        prefix = "features."
        features.load_state_dict(
            {k.removeprefix(prefix): v for k, v in self.average.items() if k.startswith(prefix)}
        )
        return features.eval().requires_grad_(False)

    def train(
        self,
        pixels: Tensor,
        checkpoint: Path | None,
        until: float,
        count: Callable[[int], object],
    ) -> bool:
        """Take the remaining steps; return whether all are done."""
        if checkpoint and checkpoint.exists():
            about = read_checkpoint(checkpoint, self._parts(), run=self.identity)
            self.step = int(about["step"])
            count(self.step)
        order = BatchOrder(len(self.rows), self.config.batch, self.seed)
        saved = time.monotonic()
        # At least one step a call, so that short budgets end, too.
        while self.step < self.steps:
            self._advance(pixels, self.rows[order.rows(self.step)])
            count(1)
            if time.monotonic() > until:
                break
            if checkpoint and time.monotonic() - saved > _SAVE_EVERY:
                self._write(checkpoint)
                saved = time.monotonic()
        if checkpoint:
            self._write(checkpoint)
        return self.step == self.steps

    def _advance(self, pixels: Tensor, rows: Tensor) -> None:
        """Take one step; its random numbers depend on the seed and the step alone."""
        config = self.config
        generator = torch.Generator().manual_seed(self.seed * EPOCHS + self.step)
        images = _changed(pixels[rows].float() / 255, config, generator)
        out = self.network["head"](self.network["features"](images))
        loss = _loss(out, self.values[rows], self.is_number)
        share = lr_share(self.step, steps=self.steps, warmup=self.steps // 10, decay=0.7)
        self.adam.param_groups[0]["lr"] = config.lr * share
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        # The average follows the weights.
        decay = average_decay(self.step, config.average)
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                self.average[name].lerp_(weight, 1 - decay)
        self.step += 1

    def _parts(self) -> dict[str, object]:
        net = {k: v.detach() for k, v in self.network.named_parameters()}
        return {"net": net, "average": self.average, "optimiser": self.adam}

    def _write(self, path: Path) -> None:
        write_checkpoint(path, self._parts(), {"step": str(self.step), "run": self.identity})


def _steps(n: int, config: FeaturesConfig) -> int:
    """Return the steps of a network that learns from n records."""
    return config.epochs * (n // min(config.batch, n))


def _grey_levels(cohorts: Sequence[Cohort]) -> Tensor:
    """Return all images, (n, 1, H, W) uint8."""
    parts = [np.rint(cohort.images[:] * 255).astype(np.uint8) for cohort in cohorts]
    if len({part.shape[1:] for part in parts}) > 1:
        sizes = ", ".join(sorted({f"{p.shape[-2]} x {p.shape[-1]}" for p in parts}))
        raise ModelError(f"features: images of {sizes} pixels; give cohorts of one size")
    return torch.from_numpy(np.concatenate(parts))


def _changed(x: Tensor, config: FeaturesConfig, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift images (b, 1, H, W), and change their contrast."""
    turn, scale, dx, dy = (2 * torch.rand(4, len(x), generator=generator) - 1).unbind(0)
    angle, size = turn * config.turn * np.pi / 180, 1 + scale * config.scale
    cos, sin = angle.cos() * size, angle.sin() * size
    shift = 2 * config.shift  # the grid has two units along each side
    matrix = torch.stack([cos, -sin, dx * shift, sin, cos, dy * shift], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    power = (config.contrast * torch.randn(len(x), 1, 1, 1, generator=generator)).exp()
    return x.clamp(1e-3, 1) ** power


def _loss(out: Tensor, y: Tensor, is_number: Tensor) -> Tensor:
    """Return the mean loss of the known targets: cross-entropy of levels, Huber of numbers."""
    known = ~y.isnan()
    y = y.nan_to_num()
    levels = F.binary_cross_entropy_with_logits(out, y, reduction="none")
    losses = torch.where(is_number, F.huber_loss(out, y, reduction="none"), levels)
    return losses[known].mean()
