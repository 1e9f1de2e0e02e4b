"""A whole thorax: bones, organs, findings and devices, and the beam of its radiograph.

Axes: x to the patient's left, y up, z to the front; the origin is in mid-chest. The body is built
in centimetres for a man of average size, then scaled to the patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalcxr.sources.phantom.devices import devices
from causalcxr.sources.phantom.findings import empty_lung, inside_chest
from causalcxr.sources.phantom.organs import airways, calcification, heart, soft_tissue
from causalcxr.sources.phantom.patient import SIDES, Habitus, Patient
from causalcxr.sources.phantom.skeleton import bones
from causalcxr.sources.phantom.solids import Beam, Lung, Solids

__all__ = ["Body", "build_body", "camera", "soft_parts"]


@dataclass(frozen=True)
class Body:
    """The bodies of B patients.

    Args:
        solids: Everything that adds attenuation, one group for each kind.
        lungs: The right and the left lung.
    """

    solids: tuple[Solids, ...]
    lungs: tuple[Lung, Lung]


def build_body(p: Patient) -> Body:
    """Build the bodies of B patients."""
    b = Habitus.from_patient(p)
    mediastinum = heart(p, b)
    lungs, outside = zip(*(inside_chest(p, b, side, mediastinum) for side in SIDES), strict=True)
    parts = soft_tissue(p, b) + bones(p, b) + calcification(p, b) + airways(b) + devices(p, b)
    parts += [solid for each in outside for solid in each]
    return _sized(p, b, parts, lungs)


def soft_parts(p: Patient) -> Body:
    """Build the parts that scatter most: soft tissue, and lungs without vessels and findings."""
    b = Habitus.from_patient(p)
    mediastinum = heart(p, b)
    lungs = [empty_lung(p, b, side, mediastinum) for side in SIDES]
    return _sized(p, b, soft_tissue(p, b), lungs)


def _sized(p: Patient, b: Habitus, parts: list[Solids], lungs: Sequence[Lung]) -> Body:
    """Return a body from its parts, scaled to the stature."""
    size = (1 + 0.035 * p.z("stature") + 0.05 * (b.male - 0.5)) * (1 - 0.52 * b.child)
    solids = tuple(group.scaled(size) for group in Solids.by_kind(parts))
    right, left = (
        Lung(
            lung.region.scaled(size),
            lung.displacers.scaled(size),
            tuple(group.scaled(size) for group in lung.contents),
        )
        for lung in lungs
    )
    return Body(solids, (right, left))


def camera(p: Patient) -> Beam:
    """Place the X-ray tube and the detector.

    PA from behind at 183 cm, AP from the front at 105 cm, LATERAL from the right at 183 cm.
    """
    view, n, child = p["View"].long(), len(p.draws), p.child
    distance = torch.tensor([105.0, 183.0, 183.0]).double()[view]
    # Children are thinner, so they are nearer to the detector.
    to_detector = torch.tensor([15.0, 14.0, 19.0]).double()[view] * (1 - 0.5 * child)
    # Before the patient's rotation: from the source to the detector, and the detector's right.
    beam = torch.tensor([[0.0, 0, -1], [0, 0, 1], [1, 0, 0]]).double()[view]
    right = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]]).double()[view]
    supine = (view == 0).double()
    rotate = _about_y((0.055 + 0.03 * supine) * p.z("rotation"))
    beam, right = (rotate @ beam[..., None])[..., 0], (rotate @ right[..., None])[..., 0]
    # The detector turns about the beam.
    roll = (0.018 + 0.018 * supine) * p.z("roll")
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    up = torch.tensor([0.0, 1, 0]).double().expand(n, 3)
    right, up = right * cos + up * sin, up * cos - right * sin
    # The beam is not centred exactly.
    above = -0.5 * (1 - child * 0.5) + (1.1 + 0.5 * supine) * p.z("centring")
    lift = above[:, None] * up + ((0.7 + 0.5 * supine) * p.z("centring across"))[:, None] * right
    source = -(distance - to_detector)[:, None] * beam + lift
    frame = torch.stack([right, up, distance[:, None] * beam], -1)
    # The field is set at the patient; on the detector it is magnified.
    field = (18.7 - 2.3 * (view == 2) + 1.2 * p.z("field")) * (1 - 0.45 * child)
    return Beam(source, frame, field * distance / (distance - to_detector))


def _about_y(angle: Tensor) -> Tensor:
    """Return rotations about the patient's long axis, (B, 3, 3)."""
    cos, sin, zero, one = angle.cos(), angle.sin(), angle * 0, angle * 0 + 1
    return torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).view(-1, 3, 3)
