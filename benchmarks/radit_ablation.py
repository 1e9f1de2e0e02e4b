"""What the paper does not publish, chosen by small measured runs.

    python -m benchmarks radit_ablation

A small network (32 pixels, 64 tokens of width 96, three blocks) learns 6,000 enriched phantoms in
300 steps of 32, one choice changed at a time, one seed. Told: the velocity loss on held-out
phantoms at fixed times and noise, and |twin - true| / |factual - true| for three interventions.
The pairing is tried with four parents only: with all nineteen hardly two phantoms of a batch are
alike. Runs that are done are kept in `runs/ablation/` and not run again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import Row, stopwatch
from benchmarks._twins import ACTIONS, GRAPH, bound, chance, films, wrong
from causalcxr import Cohort
from causalcxr.common.files import atomic_write
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.train import train
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_KEPT = Path("runs/ablation")
_ASKED = ("do(sex=M)", "do(view=PA), of AP", "do(pleural_effusion=N)")
_FOUR = ("Sex", "View", "Cardiomegaly", "Pleural Effusion")


@dataclass(frozen=True)
class Choice:
    """One variant: what is different in the network and in its training."""

    network: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


CHOICES = {
    "adaLN shared, Fourier, Muon": Choice(),
    "adaLN a block": Choice({"modulation": "blocks"}),
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


def _run(choice: Choice, learned: Cohort, x: Tensor, steps: int, n: int) -> dict[str, float]:
    """Train one variant, and judge it on phantoms that it has not seen."""
    net = _net(choice)
    config = TrainConfig(steps=steps, average=0.99, warmup=30, **choice.training)
    with stopwatch() as watch:
        train(net, lambda rows: x[rows], _columns(net, learned), config, seed=0)
    held = Cohort.load("phantom", n=16 * max(4, n), seed=104, size=32)
    few = held.head(512)
    columns = {name: c.float() for name, c in _columns(net, few).items()}
    with torch.no_grad():
        loss = velocity_loss(
            net, 2 * films(few) - 1, columns, torch.Generator().manual_seed(0), hide=0
        )
    out = {"held-out loss": float(loss)}
    for name in _ASKED:
        where, action = ACTIONS[name]
        asked = held.select(where).head(n)
        true = truth(asked, action)
        u = bound(net, asked, Solving(12)).abduct(films(asked), chance(asked))
        twins = bound(net, true, Solving(12)).predict(u)
        out[name] = wrong(twins, films(true).double(), films(asked).double())
    return {**out, "seconds a step": watch.seconds / steps}


def main(quick: bool = False) -> list[Row]:
    """Return a row a choice."""
    records, steps, n = (256, 3, 2) if quick else (6000, 300, 32)
    learned, table = Cohort.load("phantom", n=records, seed=103, size=32, enriched=1), []
    x = None
    for name, choice in CHOICES.items():
        kept = _KEPT / f"{name.replace(' ', '_').replace(',', '')}-{steps}.json"
        if not kept.exists():
            x = 2 * films(learned) - 1 if x is None else x
            atomic_write(kept, json.dumps(_run(choice, learned, x, steps, n)))
        table.append({"choice": name, **json.loads(kept.read_text())})
    return table
