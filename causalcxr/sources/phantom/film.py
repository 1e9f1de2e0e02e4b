"""From a body to the numbers on the film, and to the mask of each finding.

Attenuation by Beer and Lambert, scatter, quantum noise of the dose, then what detector and display
do: sharpening, a window about the lungs, a curve, shutters.

Scatter is that of the soft parts without findings, a smooth field: it comes from the whole trunk,
and so a local finding changes the pixels it covers and, but for the sharpening of their
neighbours, no other.
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

VISIBLE = 0.02  # a change of attenuation that a mask counts: two per cent of the rays
_SCATTER = (0.16, 0.07, 0.07)  # of the primary beam: AP without a grid, PA and LATERAL with
_COARSE = 16  # pixels of the film on which scatter is computed
_RACE = 0.08  # of the display's gamma, between one level of Race and the next
_SHAPE = (-1, 1, 1, 1)


def attenuation(
    p: Patient, size: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Tensor:
    """Return the line integral at each pixel, (B, 1, size, size), followed on a device."""
    body, beam = build_body(p), camera(p)
    # Half the side of a pixel where the patient stands, nearer to the source than the detector.
    pixel = beam.width / size * (beam.source.norm(dim=-1) / beam.frame[..., 2].norm(dim=-1))
    solids = [*body.solids, markers(p, beam)]
    solids = [group.thickened(1.1 * pixel).to(device) for group in solids]
    lungs = [lung.to(device) for lung in body.lungs]
    film = line_integral(solids, beam.to(device), size, lungs, dtype)
    return film.clamp(min=0)[:, None].cpu()


def _scatter(p: Patient, size: int, dtype: torch.dtype) -> Tensor:
    """Return scattered radiation: a smooth share of what passes the soft parts in health."""
    healthy = p.but(dict.fromkeys(FINDINGS, torch.zeros_like(p["Age"])))
    body = soft_parts(healthy)
    primary = torch.exp(-line_integral(body.solids, camera(p), _COARSE, body.lungs, dtype))[
        :, None
    ]
    smooth = avg_pool2d(pad(primary, (2, 2, 2, 2), mode="replicate"), 5, 1)
    wide = interpolate(smooth, size=(size, size), mode="bicubic", align_corners=False)
    share = torch.tensor(_SCATTER, dtype=dtype)[p["View"].long()]
    return share.view(_SHAPE) * wide.clamp(min=0)


def _grain(signal: Tensor, p: Patient) -> Tensor:
    """Return the quantum noise of a signal: its variance is the signal over the dose."""
    size, dtype = signal.shape[-1], signal.dtype
    dose = torch.exp(10.2 + 0.3 * p.z("dose")) / profile_of(p)["noise"] ** 2
    # Below 64 pixels one pixel collects the quanta of several.
    each = dose * max(64 / size, 1) ** 2
    grain = torch.from_numpy(p.draws.on("detector").normal(size * size))
    return grain.view_as(signal).to(dtype) * (signal / each.view(_SHAPE).to(dtype)).sqrt()


def _sharpened(log: Tensor, amount: Tensor) -> Tensor:
    """Return the film with edges of one pixel's width stressed, or softened."""
    soft = avg_pool2d(pad(log, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return log + amount.view(_SHAPE).to(log.dtype) * (log - soft)


def _exposed(log: Tensor, p: Patient, race_signal: float) -> Tensor:
    """Return the film of a logarithmic signal: window and display curve."""
    profile = profile_of(p)
    lateral = (p["View"] == 2).double()
    supine = (p["View"] == 0).double()
    centre = 2.45 - 1.2 * p.child + 0.7 * lateral
    centre = centre + profile["centre"] + (0.16 + 0.1 * supine) * p.z("exposure")
    width = (1.42 + 0.15 * lateral + 0.16 * supine) * profile["width"]
    width = width * (1 + 0.12 * p.z("contrast"))
    film = torch.sigmoid((log - centre.view(_SHAPE)) / (0.72 * width.view(_SHAPE)))
    gamma = profile["gamma"] * (1 + _RACE * race_signal * (p["Race"] - 1))
    return film ** gamma.view(_SHAPE)


def render(
    p: Patient,
    size: int,
    dtype: torch.dtype = torch.float32,
    race_signal: float = 1.0,
    device: str = "cpu",
) -> Tensor:
    """Film B patients, shape (B, 1, size, size), float32 in [0, 1], dense bright.

    Deterministic in (variables, noise): a patient's film is the same alone and in company.

    Args:
        p: Variables and noise of B patients.
        size: Pixels along each side, 32 to 512.
        dtype: In which the rays are followed and the film is exposed.
        race_signal: How much of Race reaches the picture: it moves the gamma of the whole
            display, by 8 % a level, and no shape; 0 for nothing.
        device: Where the rays are followed; the rest, which is little, stays on the processor.
    """
    primary = torch.exp(-attenuation(p, size, dtype, device))
    signal = primary + _scatter(p, size, dtype)
    signal = signal + _grain(signal, p)
    log = _sharpened(-torch.log(signal.clamp(min=1e-4)), profile_of(p)["sharpening"])
    film = _exposed(log, p, race_signal)
    open_ = shutter(p, size)[:, None]
    film = film * open_ + profile_of(p)["shutter"].view(_SHAPE) * (1 - open_)
    return film.clamp(0, 1).float()


def masks(p: Patient, size: int, finding: str) -> Tensor:
    """Return where a finding changes the film of B patients, (B, 1, size, size), bool.

    The same body is filmed with and without the finding, all else as it is, and the mask is
    where the rays are attenuated otherwise by more than `VISIBLE`. It is empty for a patient
    without the finding.
    """
    absent = p.but({finding: torch.zeros_like(p["Age"])})
    change = attenuation(p, size) - attenuation(absent, size)
    return change.abs() > VISIBLE
