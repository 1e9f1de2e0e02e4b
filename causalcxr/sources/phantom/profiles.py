"""The acquisition and display of each data set: one profile for each.

The profiles represent different hospitals and manufacturers. They are ours, chosen so that the
data sets differ visibly; they were not measured on the data sets of these names.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from causalcxr.sources.phantom.patient import Patient
from causalcxr.sources.phantom.shapes import tube
from causalcxr.sources.phantom.solids import Beam, Solids

__all__ = ["PROFILES", "Profile", "markers", "profile_of", "shutter"]


@dataclass(frozen=True)
class Profile:
    """Acquisition and display of a data set.

    Args:
        centre: Centre of the display window, added in units of attenuation.
        width: Width of the display window, a factor.
        gamma: Gamma of the display.
        sharpening: Sharpening of edges one pixel wide; negative values soften.
        noise: Noise of the detector, a factor.
        collimated: Fraction of images with shutters in the field.
        shutter: Grey level behind the shutters: 0 black, 1 white.
        marker: The lead letter on the detector: 0 none, 1 L, 2 R.
    """

    centre: float = 0.0
    width: float = 1.0
    gamma: float = 1.0
    sharpening: float = 0.0
    noise: float = 1.0
    collimated: float = 0.2
    shutter: float = 0.0
    marker: int = 1


# In the order of the levels of Dataset.
PROFILES = {
    "MIMIC-CXR": Profile(sharpening=0.2, collimated=0.15),
    "ReXGradient": Profile(0.2, 1.08, 0.93, 0.5, 0.8, 0.1, 0.0, 2),
    "CheXpert-Plus": Profile(-0.24, 0.92, 1.1, -0.1, 1.2, 0.3, 0.0, 1),
    "PadChest": Profile(0.16, 0.95, 1.0, -0.3, 1.0, 0.35, 1.0, 2),
    "ChestX-ray14": Profile(0.08, 0.96, 1.0, 0.2, 0.9, 0.4, 0.0, 1),
    "BRAX": Profile(0.28, 1.0, 1.12, 0.7, 0.9, 0.1, 0.0, 0),
    "VinDr-CXR": Profile(-0.12, 0.9, 1.0, 0.3, 0.7, 0.05, 0.0, 2),
}

# The strokes of the letters, five each, from and to (across, up), in units of half a letter.
_OFF = (0.0, 0.0, 0.0, 0.0)
_L = ((-0.5, 1, -0.5, -1), (-0.5, -1, 0.6, -1), _OFF, _OFF, _OFF)
_R = (
    (-0.5, -1, -0.5, 1),
    (-0.5, 1, 0.45, 0.75),
    (0.45, 0.75, 0.45, 0.2),
    (0.45, 0.2, -0.5, 0),
    (-0.1, 0, 0.6, -1),
)
_LETTERS = torch.tensor([[_OFF] * 5, _L, _R]).double().view(3, 5, 2, 2)
_LETTER = 0.85  # half its height in cm
_LEAD = 12.0


def profile_of(p: Patient) -> dict[str, Tensor]:
    """Return the profile of each patient's data set: a tensor (B,) for each field."""
    position = p["Dataset"].long()
    profiles = list(PROFILES.values())
    return {
        field.name: torch.tensor([getattr(one, field.name) for one in profiles]).double()[position]
        for field in fields(Profile)
    }


def markers(p: Patient, beam: Beam) -> Solids:
    """Return the lead letter on each patient's detector, in its upper corner.

    L lies on the viewer's right, which is the patient's left; R lies on the other side.
    """
    kind = profile_of(p)["marker"].long()
    side = torch.where(kind == 2, -1.0, 1.0).double()
    across = side * (0.84 + 0.04 * p.z("marker across"))
    up = 0.72 + 0.09 * p.z("marker height")
    place = torch.stack([across, up], -1) * beam.width[:, None]
    strokes = _LETTERS[kind] * _LETTER + place[:, None, None]  # (B, 5, 2, 2)
    # Just in front of the detector.
    middle = beam.source + 0.985 * beam.frame[..., 2]
    points = middle[:, None, None] + strokes @ beam.frame[..., :2].mT[:, None]
    present = (kind > 0).double() * (p.u("marker") < 0.85)
    # Strokes without a length fill up the letters that have fewer.
    long = (strokes[:, :, 0] != strokes[:, :, 1]).any(-1)
    return Solids.join(
        [tube(points[:, k], 0.14, _LEAD * present * long[:, k]) for k in range(points.shape[1])]
    )


def shutter(p: Patient, size: int) -> Tensor:
    """Return the opening of the shutters: 1 inside, 0 outside, (B, size, size), float64."""
    closed = (p.u("collimation") < profile_of(p)["collimated"]).double()
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
    up, across = torch.meshgrid(-centres, centres, indexing="ij")
    angle = (0.03 * p.z("collimation turn"))[:, None, None]
    x, y = across * angle.cos() + up * angle.sin(), up * angle.cos() - across * angle.sin()
    inset = 0.02 + 0.05 * p.u("marker height")[:, None, None]
    reach = torch.minimum(1 - inset - x.abs(), 1 - 0.6 * inset - y.abs()) * size / 2
    return torch.where(closed[:, None, None] > 0, (reach + 0.5).clamp(0, 1), 1.0)
