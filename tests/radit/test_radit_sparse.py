"""The penalty on what single variables do: its value, its parts, and what it does to training."""

import dataclasses

import pytest
import torch
from test_radit import PARENTS, SMALL, network, values
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT


class Places(nn.Module):
    """A velocity that one variable changes by a known amount, in the upper left place only."""

    def __init__(self, name: str, amount: float) -> None:
        super().__init__()
        self.name, self.amount = name, amount

    def forward(self, x: Tensor, t: Tensor, *, columns: dict[str, Tensor]) -> Tensor:
        v = torch.zeros_like(x)
        v[:, :, :4, :4] = self.amount * columns[self.name].view(-1, 1, 1, 1)
        return v


def loss(net: nn.Module, columns, others, some=slice(None), x=None, **told) -> Tensor:
    x = torch.zeros(len(next(iter(columns.values()))), 1, 16, 16) if x is None else x

    def part(c):
        return {k: v[some] for k, v in c.items()}

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return velocity_loss(
            net, x[some], part(columns), generator, 0.0, others=part(others), **told
        )


def test_penalty_of_one_place_is_its_size_over_the_places():
    columns = {"a": torch.zeros(4000), "b": torch.zeros(4000)}
    others = {"a": torch.ones(4000), "b": torch.ones(4000)}
    net = Places("a", amount=0.8)
    penalty = loss(net, columns, others, sparse=1.0) - loss(net, columns, others)
    # Half of the patients are looked at for `a`; one place of sixteen changes by .8, others by 0
    # (a root of 1e-8, so that it has a gradient).
    assert penalty.item() == pytest.approx(0.5 * 0.8 / 16, rel=0.06, abs=2e-4)


def test_penalty_of_equal_values_is_zero():
    columns = values(8)
    plain = loss(network(), columns, columns)
    assert loss(network(), columns, columns, sparse=1.0).item() == pytest.approx(
        plain.item(), abs=2e-4
    )


def test_penalties_of_parts_make_up_the_batch():
    columns, others = values(12), {k: v.roll(1) for k, v in values(12).items()}
    x = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(1))

    def part(some, **told):
        return loss(network(), columns, others, some, x, sparse=5.0, **told)

    whole = part(slice(None))
    cuts = [slice(0, 5), slice(5, 6), slice(6, 12)]
    parts = [part(cut, rows=cut, total=12) * (cut.stop - cut.start) / 12 for cut in cuts]
    assert torch.stack(parts).sum().item() == pytest.approx(whole.item(), rel=1e-5)
    assert whole > loss(network(), columns, others, x=x)


@pytest.mark.slow
def test_penalty_shrinks_spurious_effects():
    x, columns = torch.zeros(64, 1, 16, 16), values(64)
    config = TrainConfig(
        steps=100, batch=16, lr=1e-3, warmup=2, average=0.5, hide=0.0, precision="fp32"
    )

    def effect(sparse: float) -> float:
        torch.manual_seed(0)
        net = RadiT(SMALL, PARENTS)
        train(net, lambda rows: x[rows], columns, dataclasses.replace(config, sparse=sparse))
        half = torch.full((64,), 0.5)
        rolled = {k: v.roll(1).float() for k, v in columns.items()}
        with torch.no_grad():
            change = net(x, half, columns={k: v.float() for k, v in columns.items()})
            return (change - net(x, half, columns=rolled)).abs().mean().item()

    # The images do not depend on the variables at all.
    assert effect(20.0) < 0.5 * effect(0.0)


def test_negative_weight_is_refused():
    with pytest.raises(MechanismError, match=r"sparse is -1\.0; expected 0 or more"):
        TrainConfig(sparse=-1.0)
