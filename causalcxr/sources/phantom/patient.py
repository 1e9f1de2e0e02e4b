"""A phantom patient: the variables, and the exogenous numbers that determine the body."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from scipy.special import ndtri
from torch import Tensor

from causalcxr.common.random_numbers import Draws

__all__ = ["NUMBERS", "OWN_NUMBERS", "SIDES", "VESSELS", "Habitus", "Patient"]

SIDES = (-1, 1)  # the patient's right, then left: the sign of x
VESSELS = 6  # main vessels of each lung

# One uniform number each for a patient and all twins. New ones are appended: the position in this
# list is the counter of the random number.
NUMBERS = (
    *("stature", "fat", "chest width", "chest depth", "lung height", "inspiration", "aeration"),
    *("bone", "rib slope", "rib height", "rib shape", "kyphosis", "scoliosis", "clavicle tilt"),
    *("scapula", "shoulder height", "arm", "heart size", "heart growth", "heart axis"),
    *("heart place", "heart height", "mediastinum", "mediastinum growth", "aorta", "dome right"),
    *("dome left", "bubble across", "bubble size", "gas across", "gas height", "breast"),
    *("breast height", "breast side", "muscle", "rotation", "roll", "centring", "centring across"),
    *("field", "collimation", "collimation turn", "marker", "marker across", "marker height"),
    *("dose", "exposure", "contrast", "effusion side", "effusion right", "effusion left"),
    *("oedema", "oedema reach", "consolidation side", "consolidation zone", "consolidation size"),
    *("consolidation turn", "consolidation density", "pneumonia side", "pneumonia height"),
    *("pneumonia across", "pneumonia size", "pneumonia density", "atelectasis side"),
    *("atelectasis loss", "atelectasis bands", "atelectasis height", "pneumothorax side"),
    *("pneumothorax size", "pleura side", "pleura thickness", "pleura height", "pleura lime"),
    *("lesion side", "lesion count", "lesion size", "lesion across", "lesion height"),
    *("lesion depth", "opacity side", "opacity height", "opacity size", "opacity density"),
    *("fracture side", "fracture level", "fracture place", "fracture step", "device kinds"),
    *("device 0", "device 1", "device 2", "device pacemaker", "device line", "device tube"),
    *(f"vessel {side} {k} {what}" for side in SIDES for k in range(VESSELS) for what in "abc"),
    *(f"clump {k} {what}" for k in range(6) for what in "xyz"),
)
_POSITION = {name: k for k, name in enumerate(NUMBERS)}

# Finding -> how the names of its own numbers begin.
_BEGINNINGS = {
    "Cardiomegaly": ("heart growth",),
    "Enlarged Cardiomediastinum": ("mediastinum growth",),
    "Pleural Effusion": ("effusion",),
    "Edema": ("oedema",),
    "Consolidation": ("consolidation",),
    "Pneumonia": ("pneumonia", "clump"),
    "Atelectasis": ("atelectasis",),
    "Pneumothorax": ("pneumothorax",),
    "Pleural Other": ("pleura",),
    "Lung Lesion": ("lesion",),
    "Lung Opacity": ("opacity",),
    "Fracture": ("fracture",),
    "Support Devices": ("device",),
}
#: Finding -> the numbers that only this finding uses: without it, they change no pixel.
OWN_NUMBERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        finding: tuple(name for name in NUMBERS if name.startswith(beginnings))
        for finding, beginnings in _BEGINNINGS.items()
    }
)


@dataclass(frozen=True)
class Patient:
    """The variables and the noise of B patients.

    Args:
        columns: Level positions and years of the variables, each (B,), float64.
        draws: The exogenous numbers of these records.

    Example:
        >>> from causalcxr.common.random_numbers import record_keys
        >>> import pandas as pd
        >>> draws = Draws(record_keys(pd.RangeIndex(2)), seed=0)
        >>> Patient({"Edema": torch.tensor([0.0, 1.0])}, draws).has("Edema").tolist()
        [0.0, 1.0]
    """

    columns: dict[str, Tensor]
    draws: Draws

    @cached_property
    def _uniform(self) -> Tensor:
        return torch.from_numpy(self.draws.on("body").uniform(len(NUMBERS)))

    @cached_property
    def _normal(self) -> Tensor:
        return torch.from_numpy(ndtri(self._uniform.numpy())).clamp(-3, 3)

    def u(self, name: str) -> Tensor:
        """Return one number for each patient, uniform between 0 and 1, (B,)."""
        return self._uniform[:, _POSITION[name]]

    def z(self, name: str) -> Tensor:
        """Return the same number as standard normal, clipped at 3 standard deviations, (B,)."""
        return self._normal[:, _POSITION[name]]

    def has(self, name: str) -> Tensor:
        """Return 1 where the finding is present, else 0."""
        return (self.columns[name] > 0).double()

    def on_side(self, name: str, side: int, both: float) -> Tensor:
        """Return 1 where a finding is on this side, (B,).

        Args:
            name: The number that decides the side.
            side: -1 for the right, 1 for the left.
            both: The fraction of patients who have it on both sides.
        """
        u, edge = self.u(name), (1 + both) / 2
        return (u < edge).double() if side < 0 else (u > 1 - edge).double()

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def with_columns(self, columns: dict[str, Tensor]) -> "Patient":
        """Return the same patients, with the same noise, with some columns replaced."""
        other = Patient(self.columns | columns, self.draws)
        other.__dict__.update(_uniform=self._uniform, _normal=self._normal)
        return other

    def redrawn(self, where: Mapping[str, Tensor], draws: Draws) -> "Patient":
        """Return the same patients with findings' own numbers drawn again.

        Args:
            where: Finding -> the patients whose numbers of it are drawn again, (B,) bool.
            draws: Random numbers of the patients other than their exogenous ones.
        """
        new = torch.from_numpy(draws.uniform(len(NUMBERS)))
        uniform = self._uniform.clone()
        for finding, rows in where.items():
            positions = torch.tensor([_POSITION[name] for name in OWN_NUMBERS[finding]])
            is_new = torch.zeros_like(uniform, dtype=torch.bool)
            is_new[:, positions] = rows[:, None]
            uniform = torch.where(is_new, new, uniform)
        other = Patient(self.columns, self.draws)
        other.__dict__["_uniform"] = uniform
        return other

    @property
    def child(self) -> Tensor:
        """Return 1 at birth, falling to 0 at the age of 16."""
        return ((16 - self["Age"]) / 16).clamp(0, 1)


@dataclass(frozen=True)
class Habitus:
    """Measures that several organs share, each (B,), lengths in cm."""

    width: Tensor  # from the midline to the inner chest wall
    depth: Tensor  # from the middle to the front wall
    breath: Tensor  # height of the diaphragm above full inspiration
    fat: Tensor
    bone: Tensor  # mineral content, 1 at the age of 40
    male: Tensor
    woman: Tensor  # 1 for a woman of 16 or more, growing from 11
    child: Tensor
    old: Tensor  # 0 at 40 years, 1 at 90
    supine: Tensor
    reach: Tensor  # of the elbows beyond the shoulders; small for supine patients
    lateral: Tensor
    shift: Tensor  # of heart and mediastinum to the left

    @classmethod
    def from_patient(cls, p: Patient) -> "Habitus":
        """Return the habitus of B patients."""
        age, male, child = p["Age"], p["Sex"], p.child
        supine = (p["View"] == 0).double()
        # Bone loses mineral with age.
        mineral = (1 - 0.007 * (age - 40)).clamp(0.5, 1.15)
        old = ((age - 40) / 50).clamp(0, 1.3)
        # Atelectasis pulls the mediastinum to its side.
        pull = [
            p.has("Atelectasis") * p.on_side("atelectasis side", side, 0.15) * side
            for side in SIDES
        ]
        return cls(
            width=12.2 + 0.9 * male + 0.75 * p.z("chest width") - 0.5 * child,
            depth=8.6 + 0.5 * male + 0.5 * p.z("chest depth") + 0.9 * old,
            breath=0.2 + 0.85 * p.z("inspiration") + 1.7 * supine + 0.8 * child,
            fat=1.9 + 0.4 * (1 - male) + 1.0 * p.z("fat"),
            bone=mineral * (1 + 0.06 * p.z("bone")) * (1 - 0.3 * child),
            male=male,
            woman=(1 - male) * ((age - 11) / 5).clamp(0, 1),
            child=child,
            old=old,
            supine=supine,
            reach=4.0 + 12.0 * (1 - supine) + 1.2 * p.z("arm"),
            lateral=(p["View"] == 2).double(),
            shift=(pull[0] + pull[1]) * (0.9 + 0.25 * p.z("atelectasis loss")),
        )
