"""The networks of the comparison, each with its loss, optimisers and equation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.peers.ddim import DDIMEquation, noise_loss
from benchmarks.peers.training import Loss, train, weights_file
from benchmarks.peers.unet import UNet
from benchmarks.peers.vae import HVAE, HVAEEquation, elbo_loss
from causalcxr.graph.variables import Variable
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.mechanisms.image_equation import Chunk, ImageEquation, Solving
from causalcxr.mechanisms.image_transport import image_equation
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.optimisers import optimisers
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT, RadiTConfig

__all__ = [
    "FAMILIES",
    "Family",
    "small_batches",
    "snapshot",
    "solving",
    "trained_network",
    "weights_of",
]

#: (network, parents) -> the image's equation.
Binding = Callable[[nn.Module, Columns], Equation]


@dataclass(frozen=True)
class Family:
    """A kind of image model.

    Args:
        make: (shape of the images, parents) -> an untrained network.
        loss: Of a batch.
        optimisers: Network -> its optimisers.
        bind: Network and parents -> the equation.
        prepare: Called with the network, training images and parents before the first step.
    """

    make: Callable[[RadiTConfig, Sequence[Variable]], nn.Module]
    loss: Loss
    optimisers: Callable[[nn.Module], list[Optimizer]]
    bind: Binding
    prepare: Callable[[nn.Module, Tensor, Columns], None] | None = None


def solving(parents: Columns, guidance: float = 1.0, threshold: float = 0.0) -> Solving:
    """Return the options of RadiT by inversion."""
    return small_batches(Solving(guidance=guidance, threshold=threshold), parents)


def small_batches(options: Solving, parents: Columns) -> Solving:
    """Return the same options, such that a few records are not padded to a large batch."""
    return replace(options, chunk=Chunk(min(len(next(iter(parents.values()))), 12)))


def _radit(net: nn.Module, parents: Columns) -> Equation:
    return ImageEquation(net, parents, solving(parents))


def _radit_loss(
    net: nn.Module, x: Tensor, columns: Columns, g: torch.Generator, sparse: float = 0.1
) -> Tensor:
    others = {name: c.roll(1) for name, c in columns.items()}
    return velocity_loss(net, x, columns, g, sparse=sparse, others=others)


def _narrow(config: RadiTConfig) -> RadiTConfig:
    """Return a network of .57 M parameters, for digits: it takes six times as many steps."""
    return replace(config, width=96, depth=4, heads=4, mlp=8 / 3)


def _fit_mean(net: nn.Module, images: Tensor, columns: Columns) -> None:
    net.mean.fit(lambda rows: images[rows][:, None].float() / 127.5 - 1, columns)


def _adamw(net: nn.Module) -> list[Optimizer]:
    return [torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)]


def _widths(config: RadiTConfig) -> tuple[int, ...]:
    """Return the channels of a U-Net with about as many parameters as RadiT of size tiny."""
    return (16, 24, 64, 144) if config.size[0] > 32 else (32, 48, 64, 128)


def _autoencoder(beta: float) -> Family:
    """Return the autoencoder with a weight of the divergence; channels last is faster here."""

    def make(config: RadiTConfig, variables: Sequence[Variable]) -> nn.Module:
        net = HVAE(config, variables, (16, 32, 64, 144, 192))
        return net.to(memory_format=torch.channels_last)

    return Family(make, partial(elbo_loss, beta=beta), _adamw, HVAEEquation)


def _transport(
    options: Solving, sparse: float, shape: Callable[[RadiTConfig], RadiTConfig] = lambda c: c
) -> Family:
    """Return RadiT whose variables enter by places, under the transport coupling.

    Args:
        options: Weight, threshold and edits of the transport.
        sparse: Weight of the penalty on the effects of single variables.
        shape: Changes the shape of the network.
    """

    def make(config: RadiTConfig, variables: Sequence[Variable]) -> nn.Module:
        return RadiT(replace(shape(config), entry="places"), variables)

    def bind(net: nn.Module, parents: Columns) -> Equation:
        return image_equation(net, parents, small_batches(options, parents))

    loss = partial(_radit_loss, sparse=sparse)
    return Family(make, loss, lambda net: optimisers(net, TrainConfig()), bind, _fit_mean)


#: By name; the published betas of the autoencoder are 1 (digits), 5 (brains) and 9 (chests).
FAMILIES: Mapping[str, Family] = {
    "RadiT": Family(
        RadiT,
        _radit_loss,
        lambda net: optimisers(net, TrainConfig()),
        _radit,
    ),
    "RadiT, transport": _transport(Solving(coupling="transport"), sparse=0.1),
    # The weight was chosen on digits of seed 702, which are not the reported ones.
    "RadiT, transport, narrow": _transport(
        Solving(coupling="transport", guidance=1.0, edits=2), sparse=0.0, shape=_narrow
    ),
    "HVAE": _autoencoder(beta=1.0),
    "HVAE, beta 5": _autoencoder(beta=5.0),
    "HVAE, beta 9": _autoencoder(beta=9.0),
    "DDIM U-Net": Family(
        lambda config, variables: UNet(config, variables, _widths(config)),
        noise_loss,
        _adamw,
        DDIMEquation,
    ),
}


def _fresh(family: Family, config: RadiTConfig, variables: Sequence[Variable]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return family.make(config, variables)


def _stem(name: str, folder: Path) -> Path:
    return folder / name.lower().replace(",", "").replace(" ", "-")


def trained_network(
    name: str,
    config: RadiTConfig,
    variables: Sequence[Variable],
    training_data: Callable[[], tuple[Tensor, Columns]],
    *,
    minutes: float,
    folder: Path,
) -> tuple[nn.Module, dict[str, float]]:
    """Return a trained network of a family, and figures of its training.

    Args:
        name: The family.
        config: Shape of the images.
        variables: The parents.
        training_data: Returns the grey levels (n, H, W) and the parents' values; called only if
            the network has to be trained.
        minutes: Of processor time.
        folder: The weights are saved here; existing ones are loaded.
    """
    family = FAMILIES[name]
    net = _fresh(family, config, variables)
    figures = train(
        net,
        family.loss,
        family.optimisers(net),
        training_data,
        minutes=minutes,
        stem=_stem(name, folder),
        prepare=family.prepare,
    )
    parameters = sum(p.numel() for p in net.parameters())
    return net, {"parameters": parameters, **figures}


def weights_of(name: str, share: float, folder: Path) -> Path:
    """Return the file of a network's weights after a share of its training."""
    return weights_file(_stem(name, folder), share)


def snapshot(
    name: str, config: RadiTConfig, variables: Sequence[Variable], share: float, folder: Path
) -> nn.Module:
    """Return a network after a share of its training."""
    net = _fresh(FAMILIES[name], config, variables)
    net.load_state_dict(load_file(weights_of(name, share, folder)))
    return net.eval().requires_grad_(False)
