"""The mechanism that generates the radiograph: `mechanism: {kind: radit, ...}`."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from causalcxr.common.digests import file_digest
from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.graph.mechanism_options import option_defaults
from causalcxr.graph.variables import Variable
from causalcxr.images.resampling import Resampling
from causalcxr.mechanisms.base import Columns, History, Mechanism
from causalcxr.mechanisms.image_equation import Chunk, ImageEquation, Solving
from causalcxr.mechanisms.image_transport import image_equation, resampled
from causalcxr.radit.calibration import Calibration, calibrate
from causalcxr.radit.codec import Pixels
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.vae_weights import load_codec
from causalcxr.radit.weights import (
    adopt_weights,
    resolve,
    resolve_file,
    saved_calibration,
    shape_of,
)

__all__ = ["ImageEquation", "ImageMechanism"]

_WORD = "calibrated"  # of `guidance`: each variable has its own


class ImageMechanism(Mechanism):
    """Generate the image with a rectified flow transformer: `mechanism: {kind: radit, ...}`.

    Args:
        variable: The image variable.
        parents: Its tabular parents.
        options: `size` (mini, tiny, S, B, L, XL); `resolution` in pixels, and `height` if the
            image is not square; `codec`, the file of an autoencoder, for a flow of latents;
            `weights` (a bundled name or a file to start from); `steps` of training on the cohort
            (0 keeps the weights as they are, the default if weights are given), `batch`, `lr`,
            `pairing` (none, ot); and for the solver: `method`, `solver_steps`, `guidance` (a
            number or "calibrated"), `threshold`, `grain`, `remainder`, `coupling`, `edits`; see
            `Solving`.

    Raises:
        MechanismError: If an option is unknown or its value is not allowed.
        ModelError: If the resolution does not fit the patches, or the codec cannot be read.
    """

    training_defaults: ClassVar[Mapping[str, Any]] = {}
    defaults: ClassVar[Mapping[str, Any]] = option_defaults("radit")

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        # Given weights are used as they are, unless steps are given too.
        if options.get("weights"):
            options = {"steps": 0, **options}
        super().__init__(variable, parents, **options)
        self.codec = load_codec(Path(self.options["codec"])) if self.options["codec"] else Pixels()
        self.config = RadiTConfig.from_name(
            self.options["size"], self._latent_size(), channels=self.codec.channels
        )
        # The network's shape as JSON, where its weights have another one than the size says.
        self.register_buffer("shape", None)
        self.chunk = Chunk()
        # Initial weights from a fixed seed; the global random state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = RadiT(self.config, self.parents)
            self.partners = nn.ModuleList(self._new_partners())

    def _take_shape(self, saved: RadiTConfig) -> None:
        """Take from weights what no size says, such as the embedding of numbers."""
        own = {key: getattr(saved, key) for key in ("numbers", "predicts")}
        if saved == self.config or replace(self.config, **own) != saved:
            return
        self.config = saved
        text = json.dumps(asdict(saved)).encode()
        self.shape = torch.frombuffer(bytearray(text), dtype=torch.uint8)

    def _new_partners(self) -> list[RadiT]:
        """Return the other networks, untrained, if there are any.

        Raises:
            MechanismError: If the images are not pixels, which all networks must share.
        """
        files = self._partner_files
        if files and not isinstance(self.codec, Pixels):
            raise MechanismError("partners: all networks must compute in pixels; leave out codec")
        return [RadiT(shape_of(file), self.parents) for file in files]

    @property
    def _partner_files(self) -> list[Path]:
        names = [name.strip() for name in self.options["partners"].split(",")]
        return [resolve_file(name) for name in names if name]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        side = self.options["resolution"]
        return (self.options["height"] or side, side)

    def _latent_size(self) -> int | tuple[int, int]:
        """Return the size of the network's input: a side, or height and width."""
        factor = self.codec.factor
        if any(side % factor for side in self.image_size):
            raise ModelError(
                f"RadiT: {self.image_size[0]} x {self.image_size[1]} pixels are not a multiple of "
                f"the codec's {factor}; change the resolution"
            )
        height, width = (side // factor for side in self.image_size)
        return width if height == width else (height, width)

    @property
    def solving(self) -> Solving:
        """The settings of the solver for twins and samples."""
        options = dict(self.options)
        calibrated = set()
        if options["guidance"] == _WORD:
            options["guidance"] = None
            # A threshold that is given takes precedence.
            calibrated = {"guidance"} | ({"threshold"} if options["threshold"] is None else set())
        return Solving(
            options["solver_steps"],
            options["method"],
            options["guidance"],
            chunk=self.chunk,
            calibrated=frozenset(calibrated),
            **{k: options[k] for k in ("threshold", "grain", "remainder", "coupling", "edits")},
        )

    def with_coupling(self, coupling: str) -> "ImageMechanism":
        """Return the equation under another coupling; the weights are shared.

        Steps, guidance and threshold are the defaults of that coupling, as those of the graph were
        chosen for its own one.

        Raises:
            MechanismError: If there is no such coupling.
        """
        if coupling == self.options["coupling"]:
            return self
        other = copy(self)
        # None means the default of the coupling.
        own = dict.fromkeys(("solver_steps", "guidance", "threshold"))
        other.options = {**self.options, **own, "coupling": coupling}
        Solving(coupling=coupling)  # refuses an unknown one
        return other

    def forward(self, parents: Columns) -> ImageEquation:
        """Return the equation for these parents, each (n,), NaN where missing.

        Raises:
            MechanismError: If guidance is calibrated, and there is no calibration.
        """
        solving = self.solving
        if solving.calibrated and self.net.calibration is None:
            raise MechanismError(
                "image: guidance is calibrated, but the model has no calibration; fit the image "
                "again, or give guidance as a number"
            )
        bound = {name: parents[name] for name in self.net.conditioner.names}
        return image_equation(self.net, bound, solving, self.codec, self.partners)

    @property
    def calibration(self) -> Calibration | None:
        """The calibrated weights of the variables, if any."""
        return self.net.calibration

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a state; networks have the shape and calibration that they were saved with."""
        if "shape" in state_dict:
            text = bytes(state_dict["shape"].cpu().numpy())
            self._take_shape(RadiTConfig(**json.loads(text)))
            with torch.random.fork_rng(devices=[]):
                self.net = RadiT(self.config, self.parents)
        partners = {f"partners.{k}.": net for k, net in enumerate(self.partners)}
        for prefix, net in ({"net.": self.net} | partners).items():
            has_one = f"{prefix}calibration.table" in state_dict
            net.calibration = Calibration(net.conditioner.names) if has_one else None
        return super().load_state_dict(state_dict, *args, **kwargs)

    def loss(self, x: Tensor, parents: Columns) -> Tensor:
        """Return the velocity loss of images (n, 1, H, W) in [0, 1], at fixed random times."""
        generator = torch.Generator().manual_seed(0)
        columns = {n: parents[n].float() for n in self.net.conditioner.names}
        z = self.codec.encode(2 * x.float() - 1)
        return velocity_loss(self.net, z, columns, generator)

    @property
    def weights(self) -> Path | None:
        """The file of the starting weights, if any."""
        name = self.options["weights"]
        return resolve(name, self.options["resolution"]) if name else None

    def provenance(self) -> str:
        """Return the hashes of weights and codec, which determine the result of a fit."""
        files = [
            self.weights,
            Path(self.options["codec"]) if self.options["codec"] else None,
            *self._partner_files,
        ]
        return "+".join(file_digest(file) for file in files if file)

    def fit(
        self,
        x: Any,
        parents: Columns,
        *,
        validation: tuple[Any, Columns] | None = None,
        seed: int,
        progress: Callable[[int, int, float], None] | None = None,
        folder: Path | None = None,
    ) -> History:
        """Load the starting weights, if any, then train on the images.

        Args:
            x: Any object that returns images (k, 1, H, W) in [0, 1] for row numbers, such as
                `Cohort.images`.
            parents: The tabular parents, each (n,).
            validation: Not used: the number of steps is an option.
            seed: Seed of the initial weights, the order, the times and the noise.
            progress: Called with (step, steps, loss).
            folder: The folder of the checkpoints; an interrupted run there is resumed.
        """
        start, options = self.weights, self.options
        if start:
            self._take_shape(shape_of(start))
        # Start from the given weights, or anew from this seed.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = (
                adopt_weights(start, self.config, self.parents)
                if start
                else RadiT(self.config, self.parents)
            )
            # Partners are used as they are.
            for k, file in enumerate(self._partner_files):
                self.partners[k] = adopt_weights(file, self.partners[k].config, self.parents)
                self.partners[k].eval().requires_grad_(False)
                _read_calibration(self.partners[k], file)
        # Nothing to train: the starting weights are the result.
        if not options["steps"]:
            self.net.eval().requires_grad_(False)
            if start:
                _read_calibration(self.net, start)
            self._calibrate(x, parents, seed)
            return History()
        columns = {n: parents[n] for n in self.net.conditioner.names}
        # Fixed, so that no timing enters a fit: the same fit has the same weights.
        chosen = {k: options[k] for k in ("steps", "batch", "lr", "pairing")}
        config = TrainConfig(**chosen, precision="fp32")
        losses = train(
            self.net,
            partial(self._latents, x),
            columns,
            config,
            seed=seed,
            folder=folder,
            progress=progress,
        )
        self._calibrate(x, parents, seed)
        return History(train=losses, rows=len(next(iter(columns.values()))))

    def _calibrate(self, x: Any, parents: Columns, seed: int) -> None:
        """Calibrate the networks that are not calibrated yet, if guidance is."""
        if self.options["guidance"] != _WORD:
            return

        def latents(net: RadiT, rows: Tensor) -> Tensor:
            z = self._latents(x, rows)
            return resampled(Resampling(z.shape[2:], net.config.size).shrink, z)

        for net in (self.net, *self.partners):
            if net.calibration is None:
                columns = {n: parents[n] for n in net.conditioner.names}
                images = partial(self._latents, x) if net is self.net else partial(latents, net)
                net.calibration = calibrate(net, self.parents, images, columns, seed=seed)

    @torch.no_grad()
    def _latents(self, x: Any, rows: Tensor) -> Tensor:
        """Return the latents of some images, (k, channels, h, w)."""
        images = torch.as_tensor(np.asarray(x[rows.numpy()])).float() * 2 - 1
        return self.codec.encode(images)


def _read_calibration(net: RadiT, file: Path) -> None:
    """Calibrate a network as the header of its weights says, if it does."""
    if text := saved_calibration(file):
        net.calibration = Calibration.from_json(text, net.conditioner.names)
