"""Choices that the paper does not publish, compared in small runs.

    python -m benchmarks radit_ablation

A small network (32 pixels, 64 tokens of width 96, three blocks) learns from 6,000 enriched
phantoms in 300 steps of 32; one choice is changed at a time; one seed. The table has the velocity
loss on held-out phantoms at fixed times and noise, and |twin - true| / |factual - true| for three
interventions. The pairing is tried with four parents only: with all nineteen, hardly any two
phantoms of a batch have the same parents. Results are saved in `runs/ablation/`, and finished runs
are not repeated.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import Row, stopwatch
from benchmarks._image_twins import (
    ACTIONS,
    GRAPH,
    bind_parents,
    radiographs,
    record_draws,
    relative_error,
)
from causalcxr import Cohort
from causalcxr.common.files import atomic_write
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.train import train
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_SAVED = Path("runs/ablation")
_QUESTIONS = ("do(sex=M)", "do(view=PA), of AP", "do(pleural_effusion=N)")
_FOUR = ("Sex", "View", "Cardiomegaly", "Pleural Effusion")


@dataclass(frozen=True)
class Choice:
    """One variant: changes to the network and to its training."""

    network: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


CHOICES = {
    "adaLN shared, Fourier, Muon": Choice(),
    "adaLN per block": Choice({"modulation": "blocks"}),
    "tokens in the context": Choice({"entry": "tokens"}),
    "adaLN and tokens": Choice({"entry": "both"}),
    "tokens, effects sparse by .1": Choice({"entry": "tokens"}, {"sparse": 0.1}),
    "tokens, effects sparse by .4": Choice({"entry": "tokens"}, {"sparse": 0.4}),
    "spline basis": Choice({"numbers": "spline"}),
    "AdamW": Choice(training={"optimiser": "adamw"}),
    "times shifted to noise by 2": Choice(training={"shift": 2.0}),
    "four parents": Choice(parents=_FOUR),
    "four parents, OT pairing": Choice(training={"pairing": "ot"}, parents=_FOUR),
}


def _net(choice: Choice) -> RadiT:
    shape = {"resolution": 32, "patch": 4, "width": 96, "depth": 3, "heads": 3}
    names = choice.parents or GRAPH[GRAPH.image].parents
    config = RadiTConfig(**{**shape, "modulation": "shared", **choice.network})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RadiT(config, [GRAPH[name] for name in names])


def _columns(net: RadiT, cohort: Cohort) -> dict[str, Tensor]:
    columns = cohort.columns(GRAPH)
    return {name: torch.from_numpy(columns[name]) for name in net.conditioner.names}


def _run(choice: Choice, training: Cohort, x: Tensor, steps: int, n: int) -> dict[str, float]:
    """Train one variant, and evaluate it on held-out phantoms."""
    net = _net(choice)
    fixed = {"average": 0.99, "warmup": 30, "precision": "fp32"}
    config = TrainConfig(steps=steps, **fixed, **choice.training)
    with stopwatch() as watch:
        train(net, lambda rows: x[rows], _columns(net, training), config, seed=0)
    held_out = Cohort.load("phantom", n=16 * max(4, n), seed=104, size=32)
    sample = held_out.head(512)
    columns = {name: c.float() for name, c in _columns(net, sample).items()}
    with torch.no_grad():
        loss = velocity_loss(
            net, 2 * radiographs(sample) - 1, columns, torch.Generator().manual_seed(0), hide=0
        )
    out = {"held-out loss": float(loss)}
    for name in _QUESTIONS:
        where, action = ACTIONS[name]
        records = held_out.select(where).head(n)
        true_twins = truth(records, action)
        u = bind_parents(net, records, Solving(12)).abduct(
            radiographs(records), record_draws(records)
        )
        twins = bind_parents(net, true_twins, Solving(12)).predict(u)
        out[name] = relative_error(
            twins, radiographs(true_twins).double(), radiographs(records).double()
        )
    return {**out, "seconds per step": watch.seconds / steps}


def main(quick: bool = False) -> list[Row]:
    """Return one row per choice."""
    records, steps, n = (256, 3, 2) if quick else (6000, 300, 32)
    training, table = Cohort.load("phantom", n=records, seed=103, size=32, enriched=1), []
    x = None
    for name, choice in CHOICES.items():
        path = _SAVED / f"{name.replace(' ', '_').replace(',', '')}-{steps}.json"
        if not path.exists():
            x = 2 * radiographs(training) - 1 if x is None else x
            atomic_write(path, json.dumps(_run(choice, training, x, steps, n)))
        table.append({"choice": name, **json.loads(path.read_text())})
    return table
