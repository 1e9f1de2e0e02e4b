"""The FLUX.2 autoencoder as a codec of radiographs: diffusers' own class, weights from a folder.

A radiograph enters as three equal channels, and the three output channels are averaged. The 32
latent channels at an eighth of the sides are packed two by two into 128 at a sixteenth, as in
FLUX.2. Fine-tuning trains low-rank adapters (LoRA, by peft), which are finally added to the
weights.

References:
    LoRA (Hu et al.), arXiv:2106.09685.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from causalcxr.common.errors import ModelError
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.pretrained import import_extra, local_model

if TYPE_CHECKING:
    from diffusers import AutoencoderKLFlux2
    from peft import LoraModel

__all__ = ["FluxCodec", "add_adapters", "flux_from_settings", "load_flux", "merge_adapters"]

_CLASS = "AutoencoderKLFlux2"
_PACK = 2


class FluxCodec(Autoencoder):
    """Encode and decode radiographs with a FLUX.2 autoencoder.

    Args:
        vae: An `AutoencoderKLFlux2` of diffusers, for images of three channels.
    """

    def __init__(self, vae: AutoencoderKLFlux2) -> None:
        config = vae.config
        colours = (config.in_channels, config.out_channels)
        if colours != (3, 3) or tuple(config.patch_size) != (_PACK, _PACK):
            raise ModelError(
                f"FLUX.2 autoencoder: {colours[0]} channels in, {colours[1]} out, packed by "
                f"{tuple(config.patch_size)}; expected 3, 3 and (2, 2)"
            )
        # The sides are halved between stages, and once more by packing.
        halvings = len(config.block_out_channels) - 1
        super().__init__(config.latent_channels * _PACK**2, 2**halvings * _PACK)
        self.vae = vae

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the raw latents; see `Autoencoder.posterior`."""
        latents = self.vae.encode(images.expand(-1, 3, -1, -1)).latent_dist
        return pixel_unshuffle(latents.mean, _PACK), pixel_unshuffle(latents.logvar, _PACK)

    def synthesise(self, raw: Tensor) -> Tensor:
        """Return images of raw latents; see `Autoencoder.synthesise`."""
        return self.vae.decode(pixel_shuffle(raw, _PACK)).sample.mean(1, keepdim=True)

    def settings(self) -> dict[str, object]:
        """Return the configuration of diffusers' class, without its private fields."""
        return {k: v for k, v in dict(self.vae.config).items() if not k.startswith("_")}


def load_flux(folder: str | Path) -> FluxCodec:
    """Load a FLUX.2 autoencoder from a folder on this machine; nothing is downloaded.

    Args:
        folder: A folder with `config.json` and safetensors, as diffusers saves them; or one with
            such a subfolder `vae/`, as FLUX.2 is published.

    Raises:
        ModelError: If there is no such folder, it holds another class or pickled weights, tensors
            are missing or not finite, or diffusers is not installed.
    """
    folder = Path(folder)
    folder = folder / "vae" if (folder / "vae" / "config.json").is_file() else folder
    return FluxCodec(local_model("diffusers", _CLASS, folder))


def flux_from_settings(settings: Mapping[str, Any]) -> FluxCodec:
    """Build the network from its settings, with arbitrary weights."""
    build = getattr(import_extra("diffusers"), _CLASS)
    # Building draws initial weights: the global random state is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        return FluxCodec(build.from_config(json.loads(json.dumps(dict(settings)))))


def add_adapters(codec: FluxCodec, rank: int = 16, seed: int = 0) -> LoraModel:
    """Add a low-rank adapter to every convolution and linear layer; only these are trained.

    Args:
        codec: Changed in place; it computes the same as before until an adapter is trained.
        rank: Rank of the adapters.
        seed: Seed of their initial weights.

    Returns:
        The adapters, for `merge_adapters`.

    Raises:
        ModelError: If peft is not installed.
    """
    peft, vae = import_extra("peft"), codec.vae
    kinds = (nn.Conv2d, nn.Linear)
    names = [name for name, layer in vae.named_modules() if isinstance(layer, kinds)]
    # With alpha equal to the rank, adapters are added to the weights unscaled.
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    # Seeded here, with the caller's random state restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapters = peft.LoraModel(vae, config, "default")
    for name, weight in vae.named_parameters():
        weight.requires_grad_("lora_" in name)
    return adapters


def merge_adapters(codec: FluxCodec, adapters: LoraModel) -> None:
    """Add trained adapters to the weights, and remove the adapters."""
    codec.vae = adapters.merge_and_unload()
    codec.requires_grad_(False)
