"""The findings inside the chest: each as radiologists describe it, placed by the noise.

The solids of an absent finding have no attenuation or no size, so no pixel changes. The noise
decides the side of a finding that may be on the right or on the left.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from causalcxr.sources.phantom.organs import AIR, SOFT, Cavity, vessels
from causalcxr.sources.phantom.patient import Habitus, Patient
from causalcxr.sources.phantom.shapes import ball, path, tube
from causalcxr.sources.phantom.skeleton import break_place
from causalcxr.sources.phantom.solids import Lung, Solids

__all__ = ["Chest", "empty_lung", "inside_chest"]


@dataclass
class Chest:
    """The solids of all findings on one side."""

    level: Tensor  # of fluid, in cm; far below where there is none
    displacers: list[Solids] = field(default_factory=list)
    contents: list[Solids] = field(default_factory=list)
    outside: list[Solids] = field(default_factory=list)


def _present(p: Patient, cavity: Cavity, finding: str, place: str, both: float) -> Tensor:
    """Return 1 for the patients who have the finding on this side, (B,)."""
    return p.has(finding) * p.on_side(place, cavity.side, both)


def _effusion(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """Fluid: it hides the diaphragm, blunts the angle and climbs the outer wall (meniscus)."""
    present = _present(p, cavity, "Pleural Effusion", "effusion side", 0.24)
    name = "right" if cavity.side < 0 else "left"
    depth = (2.6 + 1.9 * p.z(f"effusion {name}")).clamp(0.3, 9.0)
    chest.level = torch.where(present > 0, cavity.top + depth - 3.0, -80.0)


def _oedema(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """Water in the lungs: wings about the hila, a haze that thickens downwards, Kerley's lines."""
    present, side = p.has("Edema"), cavity.side
    amount = (1 + 0.25 * p.z("oedema")).clamp(0.5, 1.6) * present
    reach = 1 + 0.12 * p.z("oedema reach")
    # Nested balls, so that the wing is densest at its centre.
    for size, mu in ((1.0, 0.027), (0.75, 0.027), (0.5, 0.025)):
        radii = (5.0 * size * reach, 7.4 * size * reach, 6.0 * size)
        chest.contents.append(ball((side * 4.4, 0.0, -0.5), radii, mu * amount))
    # The haze, low in the lung.
    low = cavity.point(0.0, -0.4, 0.0)
    chest.contents.append(ball(low, (7.0, 10.0, 9.0), 0.012 * amount))
    # Kerley's lines: short, nearly level, at the outer edge.
    for k in range(4):
        x, y, z = cavity.point(0.97 - 0.03 * k, -0.42 + 0.075 * k, 0.0)
        line = path((x, y, z), (x - side * 2.0, y + 0.1, z + 0.4))
        chest.contents.append(tube(line, 0.09, 1.1 * amount))


def _consolidation(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """A segment without air, with open bronchi in it."""
    present, side = _present(p, cavity, "Consolidation", "consolidation side", 0.1), cavity.side
    up = torch.where(p.u("consolidation zone") < 0.5, 0.42, -0.3)
    size = (1 + 0.14 * p.z("consolidation size")).clamp(0.7, 1.4)
    mu = (0.1 + 0.012 * p.z("consolidation density")) * present
    x, y, z = cavity.point(0.1, up, 0.0)
    turn = 0.25 * side + 0.15 * p.z("consolidation turn")
    # Two nested balls give a softer edge.
    for part, share in ((1.0, 0.6), (0.72, 0.55)):
        radii = (5.6 * size * part, 3.2 * size * part, 5.5)
        chest.contents.append(ball((x, y, z), radii, share * mu, turn))
    # Open bronchi: tubes from which tissue is taken away.
    for k in (-1, 0, 1):
        bronchus = path((x - side * 3.5, y - 0.4 * k, z), (x + side * 2.5, y + 1.6 * k, z + k))
        chest.contents.append(tube(bronchus, 0.28, -0.9 * mu))


def _pneumonia(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """Six patches that run into each other, in the lower or middle zone of one lung."""
    present = _present(p, cavity, "Pneumonia", "pneumonia side", 0.15)
    size = (1 + 0.15 * p.z("pneumonia size")).clamp(0.65, 1.4)
    mu = (0.125 + 0.014 * p.z("pneumonia density")) * present
    across = (0.12 + 0.12 * p.z("pneumonia across")).clamp(-0.1, 0.5)
    up = -0.17 + 0.1 * p.z("pneumonia height")
    for k in range(6):
        dx, dy, dz = (p.z(f"clump {k} {what}") for what in "xyz")
        spot = cavity.point(across + 0.28 * dx, up + 0.13 * dy, 0.3 * dz)
        r = size * (2.05 - 0.14 * k)
        chest.contents.append(ball(spot, (r, 0.9 * r, r), mu))


def _opacity(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """A hazy area without borders, through which the vessels are still seen."""
    present = _present(p, cavity, "Lung Opacity", "opacity side", 0.2)
    size = (1 + 0.12 * p.z("opacity size")).clamp(0.7, 1.3)
    mu = (0.021 + 0.003 * p.z("opacity density")) * present
    spot = cavity.point(0.15, 0.12 + 0.1 * p.z("opacity height"), 0.0)
    for part in (1.0, 0.8, 0.6, 0.4):
        r = size * part
        chest.contents.append(ball(spot, (4.6 * r, 5.6 * r, 6.0 * r), mu))


def _atelectasis(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """Plates of collapsed lung above a raised diaphragm; heart and trachea come nearer."""
    present, side = _present(p, cavity, "Atelectasis", "atelectasis side", 0.15), cavity.side
    base = cavity.top + 1.6 + 0.5 * p.z("atelectasis height")
    for k in range(3):
        exists = present * (p.u("atelectasis bands") > 0.3 * k).double()
        x = cavity.centre[:, 0] - side * (0.9 - 0.9 * k)
        plate = (x, base + 1.7 * k, 0.6 - 0.5 * k)
        turn = side * (0.14 - 0.14 * k)
        chest.contents.append(ball(plate, (3.3 - 0.4 * k, 0.45, 3.4), 0.15 * exists, turn))
    hollow = (side * 4.2, base - 0.6, -3.0)
    chest.contents.append(ball(hollow, (3.4, 3.0, 4.0), 0.06 * present, 0.3 * side))


def _pneumothorax(p: Patient, cavity: Cavity) -> Tensor:
    """Return the retraction of the lung from the wall, 0 to 0.5, (B,)."""
    present = _present(p, cavity, "Pneumothorax", "pneumothorax side", 0.0)
    return present * (0.24 + 0.09 * p.z("pneumothorax size")).clamp(0.1, 0.5)


def _pleura(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """Thickened pleura: a rind along the outer wall and over the apex, partly calcified."""
    present, side = _present(p, cavity, "Pleural Other", "pleura side", 0.4), cavity.side
    thick = (1.15 + 0.2 * p.z("pleura thickness")).clamp(0.7, 1.8)
    x, y, z = cavity.point(0.97, -0.12 + 0.1 * p.z("pleura height"), 0.0)
    chest.displacers.append(ball((x, y, z), (thick, 5.2, 7.5), present, 0.10 * side))
    x, y, z = cavity.point(0.1, 0.96, 0.0)
    chest.displacers.append(ball((x, y, z), (4.0, 1.1 * thick, 5.0), present))
    calcium = 0.28 * present * (0.5 + p.u("pleura lime"))
    x, y, z = cavity.point(0.9, -0.15 + 0.1 * p.z("pleura height"), 0.5)
    chest.outside.append(ball((x, y, z), (0.4, 2.1, 1.4), calcium, 0.1 * side))
    x, y, z = cavity.point(0.45, -0.36, 0.75)
    chest.outside.append(ball((x, y, z), (1.5, 0.35, 0.6), calcium, 0.25 * side))


def _lesion(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """One to three round masses with sharp borders."""
    present = _present(p, cavity, "Lung Lesion", "lesion side", 0.0)
    r = (1.95 + 0.3 * p.z("lesion size")).clamp(1.1, 2.8)
    across = (0.2 + 0.2 * p.z("lesion across")).clamp(-0.1, 0.6)
    up = (0.22 + 0.2 * p.z("lesion height")).clamp(-0.2, 0.6)
    for k, (dx, dy, part) in enumerate(((0.0, 0.0, 1.0), (0.4, -0.32, 0.75), (-0.2, 0.3, 0.65))):
        exists = present * (p.u("lesion count") > (0.0, 0.55, 0.8)[k]).double()
        x, y, z = cavity.point(across + dx, up + dy, 0.3 * p.z("lesion depth"))
        chest.contents.append(ball((x, y, z), (r * part, r * part, r * part), 0.24 * exists))


def _fracture(p: Patient, b: Habitus, cavity: Cavity, chest: Chest) -> None:
    """Blood under the pleura behind broken ribs; the step is in the bones."""
    present = _present(p, cavity, "Fracture", "fracture side", 0.0)
    x, y, z = break_place(p, b, cavity.side).unbind(-1)
    chest.displacers.append(ball((x, y - 1.0, z), (1.9, 3.7, 4.2), present))


def _aerated(p: Patient, b: Habitus) -> Tensor:
    """Return the attenuation that the air of a lung replaces, (B,)."""
    return AIR * (1 + 0.05 * p.z("aeration") + 0.06 * b.old)


def empty_lung(p: Patient, b: Habitus, side: int, heart: list[Solids]) -> Lung:
    """Return one healthy lung without vessels."""
    cavity = Cavity.from_patient(p, b, side)
    return Lung(cavity.lung(_aerated(p, b)), Solids.join([*heart, cavity.dome()]))


def inside_chest(p: Patient, b: Habitus, side: int, heart: list[Solids]) -> tuple[Lung, list]:
    """Return one lung with its findings, and the solids that findings add outside it."""
    cavity = Cavity.from_patient(p, b, side)
    chest = Chest(level=torch.full((len(p.draws),), -80.0, dtype=torch.float64))
    for add in (_effusion, _oedema, _consolidation, _pneumonia, _opacity, _atelectasis):
        add(p, b, cavity, chest)
    for add in (_pleura, _lesion, _fracture):
        add(p, b, cavity, chest)
    retracted = _pneumothorax(p, cavity)
    free = (retracted > 0).double()
    aerated = _aerated(p, b)
    # The pleural space beside a collapsed lung holds only air; the lung within it is denser.
    gone = torch.where(retracted > 0, 0.97 * SOFT, aerated)
    left = free * (gone - aerated * (1 - 0.15 * retracted))
    # The difference of two lungs of nearly one size is the fine line of the pleura.
    edge = 0.13 * free
    lining = [cavity.lung(edge, retracted), cavity.lung(-edge, retracted + 0.022)]
    contents = [
        *vessels(p, cavity, retracted),
        cavity.lung(left, retracted),
        *lining,
        *chest.contents,
    ]
    displacers = [*heart, cavity.dome(), *chest.displacers]
    region = Solids.join([cavity.lung(gone), cavity.float(chest.level)])
    return Lung(region, Solids.join(displacers), Solids.by_kind(contents)), chest.outside
