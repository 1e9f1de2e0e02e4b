"""The configuration file of the training of an autoencoder.

out: runs/vae/phantom-64.safetensors
cohort: phantom:n=6000,seed=1,size=64
model: {kind: rad-vae, shape: tiny, latent: 4}     # or {kind: flux2-vae, folder: ..., rank: 16}
perceptual: {features: phantom}                    # or {rad_dino: <folder>, size: 518}; or none
training: {steps: 20000, batch: 16}

Paths are relative to the working directory.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from causalcxr.radit.vae import RadVAEConfig
from causalcxr.radit.vae_train import VAETrainConfig

__all__ = ["FluxSpec", "PerceptualSpec", "RadVAESpec", "VAEConfig"]

_Count = Annotated[StrictInt, Field(ge=1)]
_STRICT = ConfigDict(frozen=True, extra="forbid")


class RadVAESpec(BaseModel):
    """A Rad-VAE: a named shape, any of whose fields may be changed."""

    model_config = _STRICT

    kind: Literal["rad-vae"]
    shape: StrictStr = "tiny"
    latent: _Count | None = None
    widths: tuple[_Count, ...] | None = None
    depth: _Count | None = None
    patch: _Count | None = None

    def config(self) -> RadVAEConfig:
        """Return the shape of the network.

        Example:
            >>> RadVAESpec(kind="rad-vae", latent=8).config().latent
            8
        """
        changes = self.model_dump(exclude_none=True, exclude={"kind", "shape"})
        return RadVAEConfig.from_name(self.shape, **changes)


class FluxSpec(BaseModel):
    """Adapters of a FLUX.2 autoencoder in a folder."""

    model_config = _STRICT

    kind: Literal["flux2-vae"]
    folder: StrictStr
    rank: _Count = 16


class PerceptualSpec(BaseModel):
    """A perceptual distance: of features by name or path, or of Rad-DINO in a folder."""

    model_config = _STRICT

    features: StrictStr | None = None
    rad_dino: StrictStr | None = None
    size: _Count | None = None

    @model_validator(mode="after")
    def _one(self) -> "PerceptualSpec":
        if (self.features is None) == (self.rad_dino is None):
            raise ValueError("give features or rad_dino, one of them")
        return self


class VAEConfig(BaseModel):
    """Describe the training of an autoencoder; see the example at the top of this module.

    Args:
        out: The safetensors file to write; card, sheet and checkpoint are written beside it.
        cohort: As the command line names a cohort.
        model: The autoencoder.
        perceptual: A perceptual distance of images, if any.
        training: Steps, batches and learning rate.
        seed: Of the initial weights and of the training.
        device: cpu, cuda, or auto.
        minutes: Stop after so many minutes with a checkpoint; the same command resumes from it.
    """

    model_config = _STRICT

    out: StrictStr
    cohort: StrictStr
    model: Annotated[RadVAESpec | FluxSpec, Field(discriminator="kind")]
    perceptual: PerceptualSpec | None = None
    training: VAETrainConfig = VAETrainConfig()
    seed: StrictInt = 0
    device: StrictStr = "auto"
    minutes: Annotated[float, Field(gt=0)] = float("inf")
