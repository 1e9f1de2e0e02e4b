"""Bones: ribs, which may be broken, spine, breastbone, clavicles, shoulder blades and arms.

Bone adds 0.2 to 0.5 per cm to the soft tissue around it: a dense shell about a spongy core. The
numbers were chosen to look like a radiograph at 64 to 256 pixels, not measured on patients.
"""

import torch
from torch import Tensor

from causalcxr.sources.phantom.organs import arm_line
from causalcxr.sources.phantom.patient import SIDES, Habitus, Patient
from causalcxr.sources.phantom.shapes import ball, box, path, tube
from causalcxr.sources.phantom.solids import Solids

__all__ = ["bones", "break_place", "wall"]

_SHELL = 0.46  # of compact bone over soft tissue
_CORE = -0.34  # spongy bone has little more attenuation than soft tissue
_LEVELS = 12
_PIECES = 9
_ANGLES = torch.linspace(0.1, 2.45, _PIECES + 1, dtype=torch.float64)  # from the spine forward


def _hollow(points: Tensor, radius: float, bone: Tensor, shell: float, flat: float = 1.0) -> list:
    """Return a bone with a marrow cavity: a tube minus a thinner tube."""
    inner = tube(points, radius - shell, _CORE * bone, (radius * flat - shell) / (radius - shell))
    return [tube(points, radius, _SHELL * bone, flat), inner]


def wall(b: Habitus, y: Tensor) -> Tensor:
    """Return the width of the rib cage at a height, as a fraction of its full width."""
    above, below = (y + 4).clamp(min=0) / 19.0, (-9 - y).clamp(min=0) / 30.0
    return (1 - above**2.2 - below**2).clamp(min=0.1).sqrt()


def _rib_points(p: Patient, b: Habitus, side: int) -> Tensor:
    """Return the lines of twelve ribs, (B, 12, pieces + 1, 3), sloping down to the front."""
    level = torch.arange(_LEVELS, dtype=torch.float64)[:, None]
    spacing = 2.22 + 0.05 * p.z("rib shape")
    top = (12.6 + 0.4 * p.z("rib height"))[:, None, None]
    start = top - spacing[:, None, None] * level
    slope = (1 + 0.13 * p.z("rib slope") - 0.3 * b.child)[:, None, None]
    turn = _ANGLES / 2.45
    # Behind, a rib climbs a little before it falls; the lower ones fall farther.
    fall = (2.4 + 0.62 * level.clamp(max=8)) * turn**1.25 - 0.7 * (torch.pi * turn).sin()
    y = start - slope * fall
    girth = wall(b, y)
    x = side * (1.6 + (b.width[:, None, None] - 1.3) * girth * _ANGLES.sin().clamp(min=0))
    z = -1.0 - b.depth[:, None, None] * girth * _ANGLES.cos()
    return torch.stack([x.expand_as(y), y, z.expand_as(y)], -1)


def break_place(p: Patient, b: Habitus, side: int) -> Tensor:
    """Return the middle of the broken ribs on one side, (B, 3)."""
    points = _rib_points(p, b, side)
    rows = torch.arange(len(points))
    return points[rows, _broken_level(p) + 1, _broken_piece(p)]


def _broken_level(p: Patient) -> Tensor:
    """Return the uppermost of three broken ribs: the fourth to the seventh."""
    return 3 + (4 * p.u("fracture level")).long()


def _broken_piece(p: Patient) -> Tensor:
    """Return the piece that is broken: towards the side of the chest."""
    return 4 + (2 * p.u("fracture place")).long()


def _ribs(p: Patient, b: Habitus) -> list[Solids]:
    parts = []
    level = torch.arange(_LEVELS)[None, :, None]
    piece = torch.arange(_PIECES + 1)[None, None]
    for side in SIDES:
        points = _rib_points(p, b, side)
        present = (p.has("Fracture") * p.on_side("fracture side", side, 0.0))[:, None, None]
        first, place = _broken_level(p)[:, None, None], _broken_piece(p)[:, None, None]
        broken = present * ((level >= first) & (level < first + 3)).double()
        # In front of the break a rib is displaced down and inwards, then returns to its place.
        step = (1.0 + 0.2 * p.z("fracture step"))[:, None, None]
        beyond = ((piece > place) * (1 - (piece - place - 1) / 4).clamp(0, 1)) * broken
        shift = torch.stack([-0.6 * side * step, -step, 0 * step], -1)
        points = points + beyond[..., None] * shift
        intact = 1 - broken * (piece[..., :-1] == place)
        # The last piece of the upper ribs is cartilage, visible in old patients; the lowest two
        # ribs float and end half way.
        length = torch.tensor([_PIECES] * 10 + [6, 4])[None, :, None]
        cartilage = (piece[..., :-1] == _PIECES - 1).double()
        intact = intact * (piece[..., :-1] < length)
        intact = intact * (1 - cartilage * (1 - 0.8 * b.old.clamp(max=1))[:, None, None])
        # Where a rib turns forward, the ray runs along it; there its shell is thin.
        mineral = (1 - 0.6 * torch.exp(-(((piece[..., :-1] - 3.5) / 1.6) ** 2))) * b.bone[
            :, None, None
        ]
        # The middle ribs are the thickest.
        height = 0.62 - 0.012 * (level - 5).abs()
        # A shell, and a core within it.
        for radius, mu, flat in ((0.0, _SHELL, 0.62), (-0.16, _CORE, 0.5)):
            each = (height + radius).expand(len(points), -1, _PIECES)
            amount = (mu * intact * mineral).expand(len(points), -1, -1)
            parts += [tube(points[:, k], each[:, k], amount[:, k], flat) for k in range(_LEVELS)]
    return parts


def _spine(p: Patient, b: Habitus) -> list[Solids]:
    """Fourteen vertebrae: body, arch and spinous process; the column bends with age."""
    bend = 0.05 + 0.03 * p.z("kyphosis").abs() + 0.09 * b.old
    sway = 0.35 * p.z("scoliosis")
    parts = []
    for k in range(14):
        y = 15.4 - 2.55 * k
        z = -6.6 - bend * (9 - abs(y - 1)) * (0.6 + 0.4 * (y > 0))
        x = sway * torch.sin(torch.tensor(y / 9))
        high = 1.02 - 0.1 * b.old * (k % 3 == 1)  # wedged in old patients
        wide = 1.45 + 0.035 * k
        column = path((x, y - high, z), (x, y + high, z))
        # The body with its inside, and the spinous process.
        parts += [
            tube(column, wide, 0.12 * b.bone, 0.85),
            tube(column, wide - 0.2, -0.07 * b.bone, 0.8),
            ball((x, y - 0.7, z - 3.2), (0.42, 1.0, 1.2), 0.12 * b.bone),
        ]
        # The arch.
        for side in SIDES:
            parts.append(ball((x + 0.95 * side, y + 0.1, z - 1.9), (0.4, 0.6, 0.7), 0.16 * b.bone))
    return parts


def _breastbone(b: Habitus) -> list[Solids]:
    z = b.depth - 0.6
    return [
        box((0.0, 2.0, z), (1.5, 6.0, 0.45), 0.1 * b.bone, 0.0, 0.06),
        box((0.0, 9.5, z - 1.0), (2.6, 2.0, 0.5), 0.1 * b.bone, 0.0, 0.3),
    ]


def _shoulders(p: Patient, b: Habitus) -> list[Solids]:
    """Clavicles, shoulder blades and arms, which are raised for a lateral view."""
    parts = []
    lift = 0.6 * p.z("shoulder height")
    for side in SIDES:
        y = 12.0 + 1.2 * b.supine + lift + 0.3 * side * p.z("clavicle tilt")
        clavicle = path(
            (1.8 * side, y - 1.6, 6.4),
            (4.2 * side, y - 0.9, 6.6),
            (7.0 * side, y + 0.1, 5.6),
            (10.0 * side, y + 0.9, 3.4),
            (13.0 * side, y + 1.0, 1.0),
            (15.4 * side, y + 0.6, 0.0),
        )
        parts += _hollow(clavicle, 0.62, b.bone, 0.17)
        x = side * (13.2 - 2.4 * b.supine + 0.6 * p.z("scapula"))
        blade = 0.09 * b.bone
        parts.append(ball((x - 0.8 * side, 5.4 + lift, -9.0), (2.7, 6.6, 0.5), blade, 0.2 * side))
        edge = path(
            (x - 0.4 * side, 12.0 + lift, -8.6),
            (x + 1.4 * side, 8.0 + lift, -8.8),
            (x + 0.6 * side, 3.0 + lift, -9.2),
            (x - 1.4 * side, -1.2 + lift, -9.4),
        )
        parts.append(tube(edge, 0.35, 0.3 * b.bone))
        spine = path((x - 2.0 * side, 10.0 + lift, -9.6), (x + 3.4 * side, 12.6 + lift, -6.0))
        parts.append(tube(spine, 0.5, 0.25 * b.bone))
        parts += _arm(b, side)
    return parts


def _arm(b: Habitus, side: int) -> list[Solids]:
    joint, elbow = arm_line(b, side)
    bone = _hollow(path(joint, elbow), 1.05, b.bone, 0.32)
    return [ball(joint, (2.2, 2.2, 2.1), 0.1 * b.bone), *bone]


def bones(p: Patient, b: Habitus) -> list[Solids]:
    """Return every bone of B patients."""
    return _ribs(p, b) + _spine(p, b) + _breastbone(b) + _shoulders(p, b)
