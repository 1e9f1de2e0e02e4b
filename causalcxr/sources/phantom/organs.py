"""Soft tissue, heart and great vessels, lungs with their vessels, diaphragm, stomach.

Soft tissue attenuates 0.19 per cm; aerated lung takes 0.155 of it away. The numbers were chosen
to look like a radiograph at 64 to 256 pixels, not measured on patients.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from causalcxr.sources.phantom.patient import SIDES, VESSELS, Habitus, Patient
from causalcxr.sources.phantom.shapes import ball, dome, path, stack, tube
from causalcxr.sources.phantom.solids import Solids

__all__ = [
    "AIR",
    "SOFT",
    "Cavity",
    "airways",
    "arm_line",
    "calcification",
    "heart",
    "soft_tissue",
    "vessels",
]

SOFT = 0.19
AIR = 0.155  # attenuation of soft tissue minus that of aerated lung


def soft_tissue(p: Patient, b: Habitus) -> list[Solids]:
    """Trunk, neck, abdomen, shoulders, arms, breasts, muscles, and gas in the belly."""
    fat = b.fat.clamp(min=0.3)
    wide, thick = b.width + 2.4 + fat, b.depth + 1.3 + 0.7 * fat
    belly = 1 + 0.06 * (fat - 1.9).clamp(min=0)
    parts = [
        tube(path((0.0, -60.0, -0.8), (0.0, -2.0, -0.8)), thick, SOFT, wide / thick),
        dome((0.0, -2.0, -0.8), (wide, 18.0, thick), SOFT),
        ball((0.0, -26.0, 0.4), ((wide - 0.6) * belly, 17.5, (thick - 0.8) * belly), 0.05),
        ball((0.0, 20.5, -2.0), (5.8, 10.5, 5.4), 0.15),
        ball((0.0, 29.0, 1.0), (7.4, 7.5, 8.5), 0.11),
    ]
    for side in SIDES:
        parts += _shoulder(p, b, side)
        parts += _breast(p, b, side)
    # Gas in the stomach, and in a loop of bowel.
    bubble = (1.6 + 0.45 * p.z("bubble size")).clamp(min=0.5)
    gas = (5.6 + 1.1 * p.z("bubble across"), -12.8 + b.breath, 2.6)
    parts.append(ball(gas, (1.75 * bubble, 0.85 * bubble, 1.6 * bubble), -0.15, 0.15))
    loop = (4.5 * p.z("gas across"), -17.5 + p.z("gas height"), 5.0)
    parts.append(ball(loop, (1.9, 1.2, 1.6), -0.09))
    return parts


def _shoulder(p: Patient, b: Habitus, side: int) -> list[Solids]:
    """The slope from neck to shoulder, the shoulder, the arm, and the pectoral muscle."""
    up, bulk = b.lateral, 1 + 0.08 * (b.fat - 1.9) + 0.08 * b.male
    joint, elbow = arm_line(b, side)
    slope = path((side * 3.0, 13.4 + 2 * up, -2.6), (side * 9.0, 11.6 + 2 * up, -2.4), joint)
    muscle = (0.035 + 0.045 * b.male) * (1 + 0.3 * p.z("muscle"))
    return [
        tube(slope, 3.9 * bulk, 0.1, 1.15),
        ball(joint, (4.9 * bulk, 5.6, 4.8), 0.11),
        tube(path(joint, elbow), 4.2 * bulk, 0.11),
        ball((side * 8.2, 5.6, b.depth - 1.4), (5.4, 4.4, 1.6), muscle, -0.5 * side),
    ]


def arm_line(b: Habitus, side: int) -> tuple[tuple, tuple]:
    """Return shoulder and elbow: at the side in bed, held away for PA, raised for lateral."""
    up, away = b.lateral, (1 - b.lateral) * (1 - b.supine)
    x = side * (16.6 + 0.6 * b.male)
    joint = (x, 8.4 + 4 * up, -1.2 + 3 * up)
    down = 26.0 - 17.0 * away - 48.0 * up
    return joint, (x + side * b.reach, joint[1] - down, -2.0 + 14 * up)


def _breast(p: Patient, b: Habitus, side: int) -> list[Solids]:
    """A breast, whose lower fold shows; it grows with body fat and sinks with age."""
    cup = (1 + 0.22 * p.z("breast") + 0.12 * (b.fat - 1.9)).clamp(min=0.4)
    size = 0.02 + cup * b.woman  # never zero, as a solid needs a size
    sag = -4.4 - 1.2 * b.old - 0.8 * (cup - 1) + 0.6 * p.z("breast height")
    x, z = side * (7.8 + 0.5 * p.z("breast side")), b.depth - 0.9 + 1.0 * cup
    dense = 0.13 * (1 - 0.25 * b.old) * b.woman
    return [
        ball((x, sag, z), (5.6 * size, 4.8 * size, 3.0 * size), dense),
        ball((x, sag + 2.2, z - 0.8), (5.2 * size, 5.2 * size, 2.2 * size), 0.35 * dense),
    ]


def heart(p: Patient, b: Habitus) -> list[Solids]:
    """Heart, great vessels and mediastinum: the solids that displace air between the lungs."""
    big = p.has("Cardiomegaly")
    scale = 0.94 + 0.04 * p.z("heart size") + 0.1 * b.child + 0.04 * b.old
    scale = scale + big * (0.36 + 0.04 * p.z("heart growth"))
    reach = b.width / 13.2 * scale
    tilt = 0.66 + 0.1 * p.z("heart axis") + 0.1 * big - 0.1 * b.breath / 1.6
    x = 1.9 + 0.25 * p.z("heart place") + 0.7 * big + b.shift
    y = -5.4 + 0.75 * b.breath + 0.5 * p.z("heart height")
    wide = 1 + p.has("Enlarged Cardiomediastinum") * (0.75 + 0.12 * p.z("mediastinum growth"))
    wide = wide * (1 + 0.07 * p.z("mediastinum")) + 0.12 * b.supine + 0.3 * b.child
    uncoiled = 1.2 * b.old + 0.15 * p.z("aorta")
    knob, s = 2.0 + 0.5 * uncoiled.clamp(-0.5, 1.4), b.shift * 0.7
    return [
        ball((x, y, 2.4), (4.75 * reach, 7.2 * reach, 5.4 * scale), 1.0, 1.571 - tilt),
        ball((x - 2.1 * reach, y + 0.6, 1.2), (3.4 * reach, 4.6 * reach, 4.4 * scale)),
        ball((0.1 + s, 6.5, -0.5), (2.15 * wide, 9.5, 4.0)),
        ball((-1.5 * wide + s, 6.0, 0.5), (1.2, 5.4, 1.6)),
        ball((0.9 + 0.7 * uncoiled + s, 5.6, -1.0), (knob, 2.2 + 0.2 * uncoiled, 2.8)),
        ball((1.5 + s, 0.6, 1.6), (2.4 + 0.3 * big, 3.2, 2.4), 1.0, 0.2),
        ball((1.1 + 0.8 * uncoiled + s, -3.0, -4.6), (1.35, 11.0, 1.4), 1.0, 0.04),
    ]


def calcification(p: Patient, b: Habitus) -> list[Solids]:
    """Calcium in the aortic arch of old patients."""
    uncoiled, s = 1.2 * b.old + 0.15 * p.z("aorta"), b.shift * 0.7
    x, r = 0.9 + 0.7 * uncoiled + s, 1.7 + 0.5 * uncoiled.clamp(-0.5, 1.4)
    arc = path(*[(x + r * a, 5.6 + r * c, -1.0) for a, c in ((0.2, 0.97), (0.75, 0.65), (1, 0))])
    return [tube(arc, 0.18, 1.1 * (b.old - 0.3).clamp(min=0))]


@dataclass(frozen=True)
class Cavity:
    """One side of the chest: the space for the lung, in cm."""

    side: int
    centre: Tensor  # (B, 3)
    radii: Tensor  # (B, 3)
    top: Tensor  # of the diaphragm, (B,)
    floor: Tensor  # of the lung's ball, (B,)

    @classmethod
    def from_patient(cls, p: Patient, b: Habitus, side: int) -> "Cavity":
        """Return the cavity of one side, with the diaphragm at its place without fluid."""
        wide, name = (b.width - 1.2) / 2, "right" if side < 0 else "left"
        radii = stack(wide + 0.55, 15.0 + 0.7 * p.z("lung height"), b.depth - 0.3)
        centre = stack(side * (wide + 0.75), torch.full_like(wide, -2.2), -0.7)
        present = p.has("Atelectasis") * p.on_side("atelectasis side", side, 0.15)
        loss = present * (2.0 + 0.6 * p.z("atelectasis loss"))
        top = -9.9 + (0.8 if side < 0 else -0.5) + 1.45 * b.breath + 0.4 * p.z(f"dome {name}")
        return cls(side, centre, radii, top + loss, centre[:, 1] - radii[:, 1])

    @property
    def tilt(self) -> float:
        """Return how far the lung leans to the side, in radians."""
        return 0.11 * self.side

    def point(self, across: Tensor | float, up: Tensor | float, front: Tensor | float) -> tuple:
        """Return a point: 1 across is the outer wall, 1 up the apex, 1 in front the front."""
        x = self.centre[:, 0] + self.side * across * self.radii[:, 0]
        y = self.centre[:, 1] + up * self.radii[:, 1]
        return x, y, self.centre[:, 2] + front * self.radii[:, 2]

    def lung(self, mu: Tensor, shrunk: Tensor | float = 0.0) -> Solids:
        """Return the lung's ball; with `shrunk`, it retracts from apex and outer wall."""
        x, y, z = self.centre.unbind(-1)
        rx, ry, rz = self.radii.unbind(-1)
        less_x, less_y = 0.8 * shrunk * rx, 0.55 * shrunk * ry
        centre = (x - self.side * less_x, y - less_y, z)
        return ball(centre, (rx - less_x, ry - less_y, rz * (1 - 0.4 * shrunk)), mu, self.tilt)

    def float(self, level: Tensor) -> Solids:
        """Return the ball whose lower side is the surface of fluid up to a level, (B,).

        Fluid climbs the walls: the ball meets them four centimetres above its lowest point.
        """
        x, _, z = self.centre.unbind(-1)
        rx, _, rz = self.radii.unbind(-1)
        high = torch.where(level > -50, 20.0, 500.0)  # without fluid it holds the whole lung
        return ball((x, level + high, z), (rx * high / 12, high, rz * high / 12))

    def dome(self) -> Solids:
        """Return the diaphragm with the organs below it."""
        wide = self.radii[:, 0]
        x = self.side * (wide + 0.1)
        radii = (wide + 2.3, 9.0, self.radii[:, 2] + 1.6)
        return ball((x, self.top - 9.0, 0.9), radii, 1.0, -0.07 * self.side)


def airways(b: Habitus) -> list[Solids]:
    """Trachea and main bronchi."""
    s = 0.8 * b.shift
    trachea = path((0.0, 22.0, 0.5), (0.1 + 0.4 * s, 12.0, -0.5), (0.2 + s, 5.0, -1.5))
    parts = [tube(trachea, 0.85, -0.15)]
    for side in SIDES:
        bronchus = path(
            (0.2 + s, 5.2, -1.5),
            (side * 2.0 + s, 3.0 + 0.3 * side, -1.7),
            (side * 4.0 + s, 1.2, -1.8),
        )
        parts.append(tube(bronchus, 0.55, -0.09))
    return parts


def vessels(p: Patient, cavity: Cavity, retracted: Tensor) -> list[Solids]:
    """Return the hilum and the branching vessels of one lung, which retract with it.

    Args:
        p: The patients.
        cavity: The side.
        retracted: The collapse of the lung, 0 to 1, (B,).
    """
    side = cavity.side
    wet = p.has("Edema")
    hilum = torch.tensor([side * 3.2, 1.0 - 0.5 * side, -0.8], dtype=torch.float64)
    reach = torch.stack([1 - 0.8 * retracted, 1 - 0.5 * retracted], -1)
    mu = 0.3 * (1 + 0.3 * wet)
    at = tuple(hilum.tolist())
    parts = [ball(at, (1.5, 2.3, 1.7), 0.4 * mu), ball(at, (5.5, 7.5, 5.0), 0.012)]
    steps = torch.tensor([0.1, 0.32, 0.55], dtype=torch.float64)
    tips = torch.tensor([0.55, 0.78, 1.0], dtype=torch.float64)
    for k in range(VESSELS):
        a, r, c = (p.z(f"vessel {side} {k} {what}") for what in "abc")
        angle = -1.28 + 0.48 * k + 0.13 * a
        # The lungs reach farther down than out.
        long = (8.6 - 2.6 * angle.cos() ** 2 + 0.5 * r) * (1.0 if k < 4 else 0.92)
        depth = (0.9 if k % 2 else -0.9) * 2.6 + 1.2 * a
        thick = 0.4 + 0.1 * (angle < -0.5)
        # A stem, then its two branches.
        for fork, line in ((0.0, steps), (-0.26, tips), (0.24, tips)):
            bend = angle[:, None] + (0.22 * c)[:, None] * line + fork * (line - 0.55) / 0.45
            out = long[:, None] * line
            x = hilum[0] + side * out * bend.cos() * reach[:, :1]
            y = hilum[1] + 1.05 * out * bend.sin() * reach[:, 1:]
            z = hilum[2] + depth[:, None] * line
            # Branches are thinner than the stem; both taper.
            taper = torch.tensor([0.85, 0.68] if fork == 0 else [0.52, 0.36], dtype=torch.float64)
            radius = (thick * (1 + 0.3 * wet))[:, None] * taper
            parts.append(tube(torch.stack([x, y, z], -1), radius, mu))
    return parts
