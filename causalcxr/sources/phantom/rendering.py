"""From a body to the grey levels of its radiograph, and to the mask of each finding.

The steps are attenuation (Beer and Lambert), scatter, quantum noise of the dose, and the
processing of detector and display: sharpening, a window about the lungs, a curve, shutters.

Scatter is a smooth field, computed from the soft parts without findings. So a local finding
changes the pixels that it covers and, through sharpening, their neighbours, but no other pixel.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from causalcxr.sources.phantom.body import build_body, camera, soft_parts
from causalcxr.sources.phantom.patient import Patient
from causalcxr.sources.phantom.physics import line_integral
from causalcxr.sources.phantom.profiles import markers, profile_of, shutter
from causalcxr.sources.phantom.tables import FINDINGS

__all__ = ["VISIBLE", "attenuation", "masks", "render"]

VISIBLE = 0.02  # the smallest change of attenuation in a mask: two per cent of the rays
_SCATTER = (0.16, 0.07, 0.07)  # of the primary beam: AP without a grid, PA and LATERAL with
_COARSE = 16  # pixels along each side of the grid on which scatter is computed
_RACE = 0.08  # change of the display's gamma from one level of Race to the next
_SHAPE = (-1, 1, 1, 1)


def attenuation(
    p: Patient, size: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Tensor:
    """Return the line integral at each pixel, (B, 1, size, size), computed on a device."""
    body, beam = build_body(p), camera(p)
    # Half the side of a pixel at the patient, who is nearer to the source than the detector.
    pixel = beam.width / size * (beam.source.norm(dim=-1) / beam.frame[..., 2].norm(dim=-1))
    solids = [*body.solids, markers(p, beam)]
    solids = [group.thickened(1.1 * pixel).to(device) for group in solids]
    lungs = [lung.to(device) for lung in body.lungs]
    integral = line_integral(solids, beam.to(device), size, lungs, dtype)
    return integral.clamp(min=0)[:, None].cpu()


def _scatter(p: Patient, size: int, dtype: torch.dtype) -> Tensor:
    """Return scattered radiation: a smooth fraction of the beam behind healthy soft parts."""
    # Scatter is smooth, so it needs neither the findings nor many pixels.
    healthy = p.with_columns(dict.fromkeys(FINDINGS, torch.zeros_like(p["Age"])))
    body = soft_parts(healthy)
    primary = torch.exp(-line_integral(body.solids, camera(p), _COARSE, body.lungs, dtype))[
        :, None
    ]
    smooth = avg_pool2d(pad(primary, (2, 2, 2, 2), mode="replicate"), 5, 1)
    wide = interpolate(smooth, size=(size, size), mode="bicubic", align_corners=False)
    share = torch.tensor(_SCATTER, dtype=dtype)[p["View"].long()]
    return share.view(_SHAPE) * wide.clamp(min=0)


def _grain(signal: Tensor, p: Patient) -> Tensor:
    """Return the quantum noise of a signal: its variance is signal / dose."""
    size, dtype = signal.shape[-1], signal.dtype
    dose = torch.exp(10.2 + 0.3 * p.z("dose")) / profile_of(p)["noise"] ** 2
    # Below 64 pixels one pixel collects the quanta of several.
    quanta = dose * max(64 / size, 1) ** 2
    grain = torch.from_numpy(p.draws.on("detector").normal(size * size))
    return grain.view_as(signal).to(dtype) * (signal / quanta.view(_SHAPE).to(dtype)).sqrt()


def _sharpened(log: Tensor, amount: Tensor) -> Tensor:
    """Return the image with edges of one pixel's width enhanced, or softened."""
    soft = avg_pool2d(pad(log, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return log + amount.view(_SHAPE).to(log.dtype) * (log - soft)


def _displayed(log: Tensor, p: Patient, race_signal: float) -> Tensor:
    """Return the grey levels of a logarithmic signal: window and display curve."""
    profile = profile_of(p)
    lateral = (p["View"] == 2).double()
    supine = (p["View"] == 0).double()
    # The middle of the window: lower for children, higher for lateral views.
    centre = 2.45 - 1.2 * p.child + 0.7 * lateral
    centre = centre + profile["centre"] + (0.16 + 0.1 * supine) * p.z("exposure")
    width = (1.42 + 0.15 * lateral + 0.16 * supine) * profile["width"]
    width = width * (1 + 0.12 * p.z("contrast"))
    grey = torch.sigmoid((log - centre.view(_SHAPE)) / (0.72 * width.view(_SHAPE)))
    gamma = profile["gamma"] * (1 + _RACE * race_signal * (p["Race"] - 1))
    return grey ** gamma.view(_SHAPE)


def render(
    p: Patient,
    size: int,
    dtype: torch.dtype = torch.float32,
    race_signal: float = 1.0,
    device: str = "cpu",
) -> Tensor:
    """Render the radiographs of B patients, (B, 1, size, size), float32 in [0, 1], dense bright.

    The image is a function of (variables, noise): it is the same alone and in a batch.

    Args:
        p: Variables and noise of B patients.
        size: Pixels along each side, 32 to 512.
        dtype: The type in which attenuation and grey levels are computed.
        race_signal: The effect of Race on the image: it changes the gamma of the whole display,
            by 8 % for each level, and no shape; 0 for no effect.
        device: The device on which attenuation is computed; the rest, which is fast, is computed
            on the processor.
    """
    # Radiation: the primary beam, scatter and quantum noise.
    primary = torch.exp(-attenuation(p, size, dtype, device))
    signal = primary + _scatter(p, size, dtype)
    signal = signal + _grain(signal, p)
    # Processing: sharpening, window and curve, shutters.
    log = _sharpened(-torch.log(signal.clamp(min=1e-4)), profile_of(p)["sharpening"])
    image = _displayed(log, p, race_signal)
    open_ = shutter(p, size)[:, None]
    image = image * open_ + profile_of(p)["shutter"].view(_SHAPE) * (1 - open_)
    return image.clamp(0, 1).float()


def masks(p: Patient, size: int, finding: str) -> Tensor:
    """Return where a finding changes the image of B patients, (B, 1, size, size), bool.

    Attenuation is computed with and without the finding, all else equal; the mask is where it
    differs by more than `VISIBLE`. It is empty for a patient without the finding.
    """
    absent = p.with_columns({finding: torch.zeros_like(p["Age"])})
    change = attenuation(p, size) - attenuation(absent, size)
    return change.abs() > VISIBLE
