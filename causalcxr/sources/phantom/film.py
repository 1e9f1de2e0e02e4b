"""From a thorax to the numbers on the film.

Attenuation by Beer and Lambert, scatter as a blurred share of the primary beam, quantum noise of
the dose, then what a radiographer and a display do: a window about the lungs and a gamma.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from causalcxr.sources.phantom.body import Patient, build_thorax, camera
from causalcxr.sources.phantom.physics import aerated_length, line_integral, pixel_grid

__all__ = ["render"]

# Per data set: window centre and width in units of attenuation, and gamma of the display.
_PROFILE = torch.tensor(
    [
        [0.00, 1.00, 1.00],
        [0.10, 1.05, 0.95],
        [-0.10, 0.95, 1.08],
        [0.05, 0.92, 1.00],
        [0.00, 1.08, 0.92],
        [0.12, 0.98, 1.10],
        [-0.05, 0.90, 1.00],
    ]
).double()
_SCATTER = 0.06  # of the primary beam, behind a grid
_SHAPE = (-1, 1, 1, 1)


def _attenuation(patient: Patient, size: int, dtype: torch.dtype) -> Tensor:
    """Return the line integral at each pixel, (B, 1, size, size)."""
    thorax, beam, grid = build_thorax(patient), camera(patient), pixel_grid(size, dtype)
    # Half the side of a pixel where the patient stands, nearer to the source than the detector.
    pixel = beam.width / size * (beam.source.norm(dim=-1) / beam.frame[..., 2].norm(dim=-1))
    total = line_integral(thorax.solids.thickened(1.1 * pixel), beam, grid)
    air = thorax.aeration[:, None].to(dtype)
    for lung, cutters in zip(thorax.lungs, thorax.cutters, strict=True):
        total = total - air * aerated_length(lung, cutters, beam, grid)
    return total.clamp(min=0).view(len(total), 1, size, size)


def _scatter(primary: Tensor) -> Tensor:
    """A broad, smooth share of the primary beam, as a grid would leave it."""
    size = primary.shape[-1]
    coarse = avg_pool2d(primary, size // 8)
    return interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False).clamp(min=0)


def _grain(signal: Tensor, patient: Patient) -> Tensor:
    """Return the quantum noise of a signal: its variance is the signal over the dose."""
    size, dtype = signal.shape[-1], signal.dtype
    dose = torch.exp(9.2 + 0.25 * patient.z("dose"))[:, None, None, None]
    grain = patient.draws.on("detector").normal(size * size)
    # Below 64 pixels one pixel collects the quanta of several.
    grain = torch.from_numpy(grain).view_as(signal).to(dtype) * (64 / size if size < 64 else 1)
    return grain * (signal / dose.to(dtype)).sqrt()


def _exposed(log: Tensor, patient: Patient) -> Tensor:
    """Return the film of a logarithmic signal: window, display curve and gamma."""
    profile = _PROFILE[patient["Dataset"].long()]
    lateral = (patient["View"] == 2).double()
    centre = 2.6 - 1.25 * patient.child + 0.95 * lateral
    centre = centre + 0.4 * profile[:, 0] + 0.16 * patient.z("exposure")
    width = (1.12 + 0.2 * lateral) * profile[:, 1] * (1 + 0.08 * patient.z("contrast"))
    film = torch.sigmoid((log - centre.view(_SHAPE)) / (0.78 * width.view(_SHAPE)))
    film = film ** profile[:, 2].view(_SHAPE)
    return ((film - 0.02) / 0.96).clamp(0, 1)


def render(patient: Patient, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Film B patients, shape (B, 1, size, size), float32 in [0, 1], dense bright.

    Deterministic in (variables, noise): a patient's film is the same alone and in company.

    Args:
        patient: Variables and noise of B patients.
        size: Pixels along each side, at least 8.
        dtype: In which the rays are followed and the film is exposed.
    """
    primary = torch.exp(-_attenuation(patient, size, dtype))
    signal = primary + _SCATTER * _scatter(primary)
    signal = signal + _grain(signal, patient)
    return _exposed(-torch.log(signal.clamp(min=1e-4)), patient).float()
