"""Support devices: pacemaker with lead, central line, tracheal and gastric tube, electrodes.

The noise decides which of them a patient with support devices has; at least one.
"""

import torch
from torch import Tensor

from causalcxr.sources.phantom.patient import Habitus, Patient
from causalcxr.sources.phantom.shapes import ball, path, tube
from causalcxr.sources.phantom.solids import Solids

__all__ = ["devices"]


def devices(p: Patient, b: Habitus) -> list[Solids]:
    """Return the devices of B patients; absent ones have no attenuation."""
    on = p.has("Support Devices")
    pacemaker = on * (p.u("device pacemaker") < 0.35)
    line, tube_ = on * (p.u("device line") < 0.55), on * (p.u("device tube") < 0.4)
    leads = on * ((p.u("device kinds") < 0.5) | ((pacemaker + line + tube_) == 0))
    j = [0.6 * p.z(f"device {k}") for k in range(3)]
    return _pacemaker(j, pacemaker, b) + _lines(j, line, tube_, b) + _electrodes(j, leads, b)


def _pacemaker(j: list[Tensor], on: Tensor, b: Habitus) -> list[Solids]:
    front = b.depth + 0.6
    lead = path(
        (8.3 + j[0], 9.0, front - 0.5),
        (5.0, 11.0 + j[1], 5.5),
        (1.5, 9.6, 3.5),
        (-1.2, 6.5, 1.5),
        (-1.7, 2.0, 1.5),
        (-0.8, -4.0, 2.5),
        (1.4, -7.6, 3.5),
        (4.2 + j[2], -8.2, 4.5),
    )
    x, y = 8.9 + j[0], 7.4 + j[1]
    can = tube(path((x, y, front - 0.4), (x, y, front + 0.4)), 2.3, 2.4 * on, 0.82)
    return [can, tube(lead, 0.13, 2.6 * on)]


def _lines(j: list[Tensor], line: Tensor, tube_: Tensor, b: Habitus) -> list[Solids]:
    s = 0.6 * b.shift
    central = path(
        (-6.5 + j[0], 19.0, 3.0),
        (-4.6 + j[0], 13.0, 4.0),
        (-2.6, 9.8, 3.0),
        (-2.0 + s, 6.0, 1.0),
        (-1.9 + s, 1.2 + j[1], 1.0),
    )
    tracheal = path(
        (0.1, 24.0, 1.5), (0.1, 15.0, 0.5), (0.1 + s, 11.0, 0.0), (0.1 + s, 7.6 + j[1], -0.5)
    )
    gastric = path(
        (0.5, 24.0, -2.0),
        (0.5, 10.0, -2.5),
        (0.5 + s, 0.0, -3.5),
        (1.4, -9.0, -3.0),
        (4.6, -14.0 + j[2], -1.0),
    )
    return [
        tube(central, 0.16, 2.4 * line),
        tube(tracheal, 0.45, 1.1 * tube_),
        # Hollow: a narrower tube takes away from the wider one.
        tube(tracheal, 0.33, -0.9 * tube_),
        tube(gastric, 0.17, 1.9 * tube_),
    ]


def _electrodes(j: list[Tensor], on: Tensor, b: Habitus) -> list[Solids]:
    parts, front = [], b.depth + 1.8
    places = ((-9.5, 8.2), (9.5, 7.0), (-10.2, -8.0), (10.6, -7.0))
    for k, (x, y) in enumerate(places):
        # Places vary a little from patient to patient.
        at = torch.stack([x + j[k % 3], y + j[(k + 1) % 3]])
        parts.append(ball((at[0], at[1], front), (0.75, 0.75, 0.3), 2.6 * on))
        wire = path(
            (at[0], at[1], front),
            (x * 0.86 + j[0], y - 3.5, front + 0.4),
            (x * 0.62 - j[1], y - 9.0, front + 0.6),
            (x * 0.5, -24.0, front + 1.0),
        )
        parts.append(tube(wire, 0.09, 2.2 * on))
    return parts
