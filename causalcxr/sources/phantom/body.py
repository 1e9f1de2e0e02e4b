"""A thorax from ellipsoids: anatomy in centimetres, drawn from noise, changed by the variables.

Axes: x to the patient's left, y up, z to the front; the origin is in mid-chest. `z(name)` is a
standard normal number of the patient, independent of every variable: it places what the variables
only switch on. So a twin is the same body with one part changed, pixel for pixel.

Numbers in the code are centimetres, radians, and attenuation in 1/cm *added* to what surrounds a
solid: soft tissue is 0.19, aerated lung takes 0.155 of it away, bone adds about 0.2, metal 2 to 3.
They are drawn by eye to look like a radiograph at 64 to 128 pixels, not measured on patients.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causalcxr.noise import Draws
from causalcxr.sources.phantom.physics import Beam, Solids

__all__ = ["Patient", "Thorax", "build_thorax", "camera"]

_SOFT, _AIR = 0.19, 0.155
_BONE = 0.2  # what cortical and spongy bone together add to soft tissue
_Numbers = tuple[Tensor | float, ...]
_SIDES = (-1, 1)  # the patient's right, then left


@dataclass(frozen=True)
class Patient:
    """What the body is built from.

    Args:
        columns: Level positions and years of the variables, each (B,), float64.
        draws: The exogenous numbers of these records.
    """

    columns: dict[str, Tensor]
    draws: Draws

    def z(self, name: str) -> Tensor:
        """Return one standard normal number a patient, within three standard deviations."""
        return torch.from_numpy(self.draws.on(f"body {name}").normal()[:, 0]).clamp(-3, 3)

    def has(self, name: str) -> Tensor:
        """Return 1 where the finding is present, else 0."""
        return (self.columns[name] > 0).double()

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    @property
    def child(self) -> Tensor:
        """Return 1 at birth, falling to 0 at the age of 16."""
        return ((16 - self["Age"]) / 16).clamp(0, 1)


@dataclass(frozen=True)
class _Build:
    """The measures that several organs share, each (B,)."""

    width: Tensor  # from the midline to the inner chest wall
    depth: Tensor  # from the middle to the front wall
    breath: Tensor  # how far the diaphragm stands above full inspiration
    bone: Tensor  # mineral content, 1 at the age of 40
    male: Tensor
    child: Tensor
    supine: Tensor

    @classmethod
    def of(cls, p: Patient) -> "_Build":
        age, male, child = p["Age"], p["Sex"], p.child
        supine = (p["View"] == 0).double()
        mineral = (1 - 0.004 * (age - 40)).clamp(0.6, 1.1)
        return cls(
            width=12.3 + 0.85 * male + 0.45 * p.z("chest width") - 0.5 * child,
            depth=8.7 + 0.5 * male + 0.45 * p.z("chest depth") + 0.01 * (age - 50).clamp(min=0),
            breath=0.55 * p.z("inspiration") + 1.5 * supine + 0.8 * child,
            bone=mineral * (1 + 0.06 * p.z("bone")) * (1 - 0.3 * child),
            male=male,
            child=child,
            supine=supine,
        )


@dataclass(frozen=True)
class Thorax:
    """The bodies of B patients.

    Args:
        solids: Everything that adds attenuation, without the lungs' air.
        lungs: The right and the left lung, one solid each.
        cutters: What displaces air of the right and of the left lung.
        aeration: Attenuation that air takes away, (B,), in 1/cm.
    """

    solids: Solids
    lungs: tuple[Solids, Solids]
    cutters: tuple[Solids, Solids]
    aeration: Tensor


def _stack(*values: Tensor | float) -> Tensor:
    """Stack numbers and (B,) tensors into (B, k)."""
    n = max((v.shape[0] for v in values if isinstance(v, Tensor)), default=1)
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).expand(n) for v in values], -1)


def _ellipsoid(
    centre: _Numbers, radii: _Numbers, mu: Tensor | float = 0.0, tilt: Tensor | float = 0.0
) -> Solids:
    """Return one ellipsoid a patient, turned by `tilt` radians in the frontal plane."""
    c, r, t = _stack(*centre), _stack(*radii), torch.as_tensor(tilt, dtype=torch.float64)
    n = max(len(c), len(r), *(len(v) for v in (t, mu) if isinstance(v, Tensor) and v.ndim))
    cos, sin, zero, one = (v.expand(n) for v in (t.cos(), t.sin(), t * 0, t * 0 + 1))
    turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], -1).view(n, 3, 3)
    shape = turn / r.expand(n, 3)[..., None]
    weight = torch.as_tensor(mu, dtype=torch.float64).expand(n)
    return Solids(shape[:, None], c.expand(n, 3)[:, None], weight[:, None])


def _chain(points: Tensor, radius: Tensor | float, mu: Tensor) -> Solids:
    """Return a curved tube as overlapping spheroids along a line of points, (B, K, 3)."""
    ends = points[:, 1:] - points[:, :-1]
    half = ends.norm(dim=-1) * 0.62  # longer than half: neighbours overlap, the tube has no gaps
    t = ends / ends.norm(dim=-1, keepdim=True)
    r = torch.as_tensor(radius, dtype=torch.float64).expand_as(half)
    # Any direction that is not along t will do to build a frame: x where t is steep, else z.
    steep = (t[..., 2:].abs() > 0.8).double()
    other = torch.cat([steep, 0 * steep, 1 - steep], -1)
    n = torch.linalg.cross(t, other)
    n = n / n.norm(dim=-1, keepdim=True)
    rows = torch.stack([t, n, torch.linalg.cross(t, n)], -2)
    shape = rows / torch.stack([half, r, r], -1)[..., None]
    return Solids(shape, (points[:, 1:] + points[:, :-1]) / 2, mu[:, None].expand_as(half))


def _ribs(p: Patient, b: _Build) -> list[Solids]:
    """Ten pairs of ribs from the spine round to the front, falling as they go."""
    level = torch.arange(10, dtype=torch.float64)
    angle = torch.linspace(0.12, 2.35, 8, dtype=torch.float64)  # from the spine, seen from above
    slope = (3.3 + 0.45 * p.z("rib slope"))[:, None, None]
    top = (11.6 + 0.5 * p.z("rib height"))[:, None, None] - 2.25 * level[None, :, None]
    y = top - slope * (angle / 2.35 * (0.55 + 0.09 * level[:, None]))[None] * 1.6
    girth = (1 - ((y + 4).clamp(min=0) / 19.5) ** 2).clamp(min=0.12).sqrt()
    pairs = []
    for side in _SIDES:
        x = side * (1.2 + (b.width[:, None, None] - 1.0) * girth * angle.sin().clamp(min=0))
        z = -b.depth[:, None, None] * girth * angle.cos() - 1.0
        points = torch.stack([x.expand_as(y), y, z.expand_as(y)], -1)
        pairs += [_chain(points[:, k], 0.5, 0.21 * b.bone) for k in range(10)]
    return pairs


def _spine(p: Patient, b: _Build) -> list[Solids]:
    """Eleven vertebrae, each a body and a process; the column bends with age."""
    kyphosis = 0.02 * (p["Age"] - 50).clamp(min=0) * 0.06 + 0.02 * p.z("kyphosis").abs()
    sway = 0.4 * p.z("scoliosis")
    parts = []
    for k in range(11):
        y = 13.0 - 2.7 * k
        z = -6.8 - kyphosis * (8 - abs(y)) * 6
        x = sway * np.sin(y / 9)
        parts.append(_ellipsoid((x, y, z), (1.75, 1.12, 1.6), _BONE * b.bone))
        parts.append(_ellipsoid((x, y - 0.6, z - 2.6), (0.5, 1.0, 1.3), _BONE * b.bone))
    return parts


def _shoulders(p: Patient, b: _Build) -> list[Solids]:
    """Clavicles, shoulder blades and the heads of the upper arms."""
    parts = []
    for side in _SIDES:
        knots = torch.tensor([1.6, 4.5, 8.5, 12.5, 15.0], dtype=torch.float64) * side
        rise = torch.tensor([0.0, 0.9, 1.6, 1.5, 1.2], dtype=torch.float64)
        y = 11.2 + 1.3 * b.supine[:, None] + rise + 0.35 * side * p.z("clavicle tilt")[:, None]
        z = torch.tensor([6.0, 6.2, 4.0, 1.0, -1.0], dtype=torch.float64)
        points = torch.stack([knots.expand_as(y), y, z.expand_as(y)], -1)
        parts.append(_chain(points, 0.55, _BONE * b.bone))
        x = side * (12.4 - 2.6 * b.supine + 0.5 * p.z("scapula"))
        parts.append(_ellipsoid((x, 6.5, -9.0), (2.6, 6.5, 0.6), 0.13 * b.bone, -0.22 * side))
        parts.append(_ellipsoid((side * 16.4, 9.8, -1.5), (2.2, 2.2, 2.2), 0.16 * b.bone))
    return parts


def _vessels(p: Patient) -> list[Solids]:
    """Hila and seven vessels a side that run outward, bend and thin."""
    parts, n = [], len(p.draws)
    steps = torch.tensor([0.12, 0.42, 0.72, 1.0], dtype=torch.float64)
    radius = torch.tensor([0.42, 0.3, 0.2], dtype=torch.float64)
    for side in _SIDES:
        hilum = torch.tensor([side * 3.4, 0.6 - 0.6 * side, -0.5], dtype=torch.float64)
        parts.append(_ellipsoid(tuple(hilum.tolist()), (1.3, 2.0, 1.4), 0.10))
        turns = torch.from_numpy(p.draws.on(f"body vessels {side}").normal(21))
        for k in range(7):
            angle = -1.25 + 0.42 * k + 0.13 * turns[:, 3 * k]
            reach = 5.6 - 0.9 * abs(k - 2.5) / 2.5 + 0.5 * turns[:, 3 * k + 1]
            bend = 0.25 * turns[:, 3 * k + 2]
            a = angle[:, None] + bend[:, None] * steps
            x = hilum[0] + side * reach[:, None] * steps * a.cos()
            y = hilum[1] + 1.35 * reach[:, None] * steps * a.sin()
            z = (0.8 * turns[:, 3 * k])[:, None] * steps - 0.5
            mu = torch.full((n,), 0.13).double()
            parts.append(_chain(torch.stack([x, y, z], -1), radius, mu))
    return parts


def _path(n: int, *knots: _Numbers) -> Tensor:
    """Return the points of a tube or wire of n patients, (n, K, 3)."""
    return torch.stack([_stack(*knot).expand(n, 3) for knot in knots], 1)


def _devices(p: Patient) -> list[Solids]:
    """Pacemaker with lead, central line, tracheal and gastric tube, electrodes.

    Which of them a patient with support devices has, the noise tells; one at least.
    """
    on = p.has("Support Devices")
    kind = torch.from_numpy(p.draws.on("body devices").uniform(4))
    pacemaker, line = on * (kind[:, 0] < 0.4), on * (kind[:, 1] < 0.55)
    tube = on * (kind[:, 2] < 0.4)
    leads = on * ((kind[:, 3] < 0.5) | ((pacemaker + line + tube) == 0))
    j = [0.6 * p.z(f"device {k}") for k in range(3)]
    return _pacemaker(j, pacemaker) + _lines(j, line, tube) + _electrodes(j, leads)


def _pacemaker(j: list[Tensor], on: Tensor) -> list[Solids]:
    lead = _path(
        len(on),
        (8.5 + j[0], 9.2, 9),
        (5, 11 + j[1], 7),
        (0.5, 8, 4),
        (-1.6, 3, 2),
        (-1.0, -3, 2),
        (2.8 + j[2], -7.5, 4),
    )
    can = _ellipsoid((9.0 + j[0], 7.8 + j[1], 9.5), (2.1, 2.4, 0.5), 3.4 * on)
    return [can, _chain(lead, 0.2, 2.6 * on)]


def _lines(j: list[Tensor], line: Tensor, tube: Tensor) -> list[Solids]:
    n = len(line)
    central = _path(
        n,
        (-6.5 + j[0], 17, 3),
        (-5 + j[0], 12.5, 4),
        (-2.4, 9.5, 3),
        (-2.0, 6, 1),
        (-1.9, 1.5 + j[1], 1),
    )
    tracheal = _path(n, (0.1, 20, 1), (0.15, 15, 0.5), (0.1, 11, 0), (0.0, 7.6 + j[1], 0))
    gastric = _path(
        n, (0.6, 20, -2), (0.5, 10, -2), (0.4, 0, -2), (1.2, -9, -2), (4.5, -14 + j[2], -1)
    )
    return [
        _chain(central, 0.24, 2.8 * line),
        _chain(tracheal, 0.42, 1.7 * tube),
        _chain(gastric, 0.22, 2.0 * tube),
    ]


def _electrodes(j: list[Tensor], on: Tensor) -> list[Solids]:
    parts = []
    for k, (x, y) in enumerate(((-9.5, 7.5), (9.5, 3.5), (-10.5, -9.0), (10.5, -8.0))):
        spot = (x + j[k % 3], y + j[(k + 1) % 3], 10.5)
        parts.append(_ellipsoid(spot, (0.95, 0.95, 0.4), 3.0 * on))
        bend, hip = (x * 0.8 + j[0], y - 4, 11), (x * 0.75 - j[1], y - 9, 11.5)
        parts.append(_chain(_path(len(on), spot, bend, hip, (x * 0.5, -22, 11)), 0.15, 2.0 * on))
    return parts


def _soft_tissue(p: Patient, b: _Build) -> list[Solids]:
    """Trunk, neck, abdomen, shoulders, arms, breasts and pectoral muscles."""
    fat = 1.5 + 0.75 * p.z("fat")
    wall, thick = b.width + 2.0 + fat.clamp(min=0.2), b.depth + 1.6 + 0.6 * fat
    parts = [
        _ellipsoid((0.0, -12.0, -0.5), (wall, 52.0, thick), _SOFT),
        _ellipsoid((0.0, 24.0, -2.0), (5.6, 12.0, 5.2), 0.12),
        _ellipsoid((0.0, -21.0, 0.5), (wall - 1.5, 14.0, thick - 1.5), 0.035),
    ]
    woman = (1 - b.male) * ((p["Age"] - 11) / 5).clamp(0, 1)  # breasts grow from 11 to 16
    cup = (1 + 0.22 * p.z("breast")).clamp(min=0.45) * woman
    sag = -4.6 - 0.03 * (p["Age"] - 30).clamp(min=0) + 0.5 * p.z("breast height")
    size = 0.01 + cup  # never nought, so that the solid stays one; its attenuation may be
    for side in _SIDES:
        parts.append(_ellipsoid((side * 15.0, 13.5, -1.0), (5.5, 5.0, 4.5), 0.10))
        parts.append(_ellipsoid((side * 21.0, 3.0, -1.0), (4.0, 14.0, 4.5), 0.15, 0.10 * side))
        centre = (side * (7.6 + 0.4 * p.z("breast side")), sag, b.depth + 1.2 * cup)
        parts.append(_ellipsoid(centre, (5.4 * size, 4.9 * size, 3.6 * size), 0.15 * woman))
        muscle = 0.08 * (0.5 + 0.5 * b.male)
        parts.append(_ellipsoid((side * 8.5, 6.5, 7.5), (5.0, 3.5, 1.5), muscle, -0.4 * side))
    return parts


def _heart(p: Patient, b: _Build) -> list[Solids]:
    """Heart, great vessels and mediastinum: they displace air on both sides."""
    big = p.has("Cardiomegaly")
    scale = 0.925 + 0.05 * p.z("heart size") + 0.1 * b.child
    scale = scale + big * (0.36 + 0.05 * p.z("heart growth"))
    reach = b.width / 13.2 * scale
    tilt = -0.62 + 0.1 * p.z("heart axis") - 0.12 * big
    x = 1.55 + 0.3 * p.z("heart place") + 1.1 * big
    y = -5.6 + 0.8 * b.breath + 0.5 * p.z("heart height")
    unfolded = ((p["Age"] - 45) / 40).clamp(0, 1.2)  # the aortic arch, in the old
    wide = 1 + 0.55 * p.has("Enlarged Cardiomediastinum") + 0.07 * p.z("mediastinum")
    across = 2.45 * wide + 0.4 * b.supine + 0.5 * b.child
    arch = (1.9 + 0.55 * unfolded + 0.15 * p.z("aorta"), 2.2 + 0.2 * unfolded, 2.6)
    return [
        _ellipsoid((x, y, 2.4), (5.0 * reach, 7.3 * reach, 5.4 * scale), 0.0, -tilt - 1.571),
        _ellipsoid((x * 0.2, y + 1.0, 0.5), (4.2 * reach, 5.4, 4.8)),
        _ellipsoid((0.1, 7.0, -0.5), (across, 9.0, 4.0)),
        _ellipsoid((1.3 + 0.9 * unfolded, 5.9, -1.0), arch),
    ]


def _effusion(p: Patient, side: int) -> tuple[Tensor, Tensor]:
    """Return whether there is fluid on this side, and its relative volume, both (B,).

    Of the patients with an effusion 38 % have it on the right, 38 % on the left, 24 % on both.
    """
    name = "right" if side < 0 else "left"
    where = torch.from_numpy(p.draws.on("body effusion side").uniform()[:, 0])
    here = (where < 0.62).double() if side < 0 else (where > 0.38).double()
    volume = (0.62 + 0.24 * p.z(f"effusion {name}")).clamp(0.3, 1.35)
    return p.has("Pleural Effusion") * here, volume


def _lung(p: Patient, b: _Build, side: int) -> tuple[Solids, Solids]:
    """Return one lung and what displaces its air from below: the diaphragm and an effusion."""
    wide, name = (b.width - 1.3) / 2, "right" if side < 0 else "left"
    height = 14.8 + 0.5 * p.z("lung height")
    lung = _ellipsoid(
        (side * (wide + 0.95), -1.5, -0.6),
        (wide + 0.35, height, b.depth - 0.4),
        tilt=0.10 * side,
    )
    fluid, volume = _effusion(p, side)
    top = -10.2 + (0.9 if side < 0 else -0.4) + 1.5 * b.breath + 0.4 * p.z(f"dome {name}")
    dome = _ellipsoid(
        (side * (wide + 0.4), top - 9.5 + 4.5 * fluid * volume, 0.5),
        (wide + 3.6, 9.5, b.depth + 2.5),
        tilt=-0.06 * side,
    )
    # A meniscus: fluid that stands higher at the chest wall and blunts the angle.
    rim = torch.where(fluid > 0, 1.0, 1e-3)
    pool = _ellipsoid(
        (side * (b.width - 0.2), -14.5, -1.5),
        ((4.2 + 4.2 * volume) * rim, (6.0 + 9.5 * volume) * rim, (b.depth + 4) * rim),
        tilt=-0.14 * side,
    )
    return lung, Solids.join([dome, pool])


def build_thorax(p: Patient) -> Thorax:
    """Build the bodies of B patients."""
    b = _Build.of(p)
    trachea = _ellipsoid((0.1, 13.0, 0.0), (0.85, 7.0, 0.8), -0.16)
    bubble = _ellipsoid((6.0 + p.z("bubble"), -14.0 + b.breath, 2.0), (2.6, 1.6, 2.4), -0.14)
    bones = _ribs(p, b) + _spine(p, b) + _shoulders(p, b)
    parts = _soft_tissue(p, b) + bones + _vessels(p) + [trachea, bubble] + _devices(p)
    heart, sides = _heart(p, b), [_lung(p, b, side) for side in _SIDES]
    size = (1 + 0.035 * p.z("stature") + 0.05 * (b.male - 0.5)) * (1 - 0.52 * b.child)
    lungs = [lung.scaled(size) for lung, _ in sides]
    cutters = [Solids.join([*heart, below]).scaled(size) for _, below in sides]
    aeration = _AIR * (1 + 0.06 * p.z("aeration") + 0.0015 * (p["Age"] - 50).clamp(min=0))
    return Thorax(Solids.join(parts).scaled(size), tuple(lungs), tuple(cutters), aeration)


def camera(p: Patient) -> Beam:
    """Stand the tube and the detector.

    PA from behind at 183 cm, AP from the front at 105 cm, LATERAL from the right at 183 cm.
    """
    view, n, child = p["View"].long(), len(p.draws), p.child
    far = torch.tensor([105.0, 183.0, 183.0]).double()[view]
    film = torch.tensor([15.0, 14.0, 19.0]).double()[view] * (1 - 0.5 * child)
    # Before the patient's rotation: from the source to the detector, and the detector's right.
    beam = torch.tensor([[0.0, 0, -1], [0, 0, 1], [1, 0, 0]]).double()[view]
    right = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]]).double()[view]
    rotate = _about_y(0.055 * p.z("rotation"))
    beam, right = (rotate @ beam[..., None])[..., 0], (rotate @ right[..., None])[..., 0]
    roll = 0.02 * p.z("roll")
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    up = torch.tensor([0.0, 1, 0]).double().expand(n, 3)
    right, up = right * cos + up * sin, up * cos - right * sin
    above = 1.2 * (1 - child * 0.5) + 0.9 * p.z("centring")
    lift = above[:, None] * up + (0.5 * p.z("centring across"))[:, None] * right
    source = -(far - film)[:, None] * beam + lift
    frame = torch.stack([right, up, far[:, None] * beam], -1)
    field = (17.2 + 0.5 * p.z("collimation")) * (1 + film / (far - film)) * (1 - 0.45 * child)
    return Beam(source, frame, field)


def _about_y(angle: Tensor) -> Tensor:
    """Return rotations about the patient's long axis, (B, 3, 3)."""
    cos, sin, zero, one = angle.cos(), angle.sin(), angle * 0, angle * 0 + 1
    return torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).view(-1, 3, 3)
