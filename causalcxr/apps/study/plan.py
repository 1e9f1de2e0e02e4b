"""The plan of a reader study: which trial each reader sees when, and what is true of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from causalcxr.common.digests import json_digest
from causalcxr.common.errors import StudyError
from causalcxr.common.files import read_text

__all__ = ["KINDS", "PLAN", "SCHEMA", "Plan", "Reader", "Shown", "Trial"]

KINDS = ("2afc", "single")
PLAN, SCHEMA = "plan.json", 1
_LARGEST = 50_000_000  # bytes of a plan
_ABOUT = "causalcxr reader study"


@dataclass(frozen=True)
class Trial:
    """Hold one question, which is the same for every reader.

    Args:
        images: The names of the images: two, or one of single-image studies.
        real: Which of them are real.
        records: The record of each in its cohort.
        strata: What the pools were matched by, such as {"View": "PA"}.
    """

    images: tuple[str, ...]
    real: tuple[bool, ...]
    records: tuple[str, ...]
    strata: Mapping[str, str]


@dataclass(frozen=True)
class Reader:
    """Hold what one reader is shown.

    Args:
        name: What the reader is called on the page and in the report.
        token: The unguessable part of the reader's link.
        orders: For each presentation, the trials in the order in which they are shown.
        swapped: For each presentation and position, whether the two images change places.
    """

    name: str
    token: str
    orders: tuple[tuple[int, ...], ...]
    swapped: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Shown:
    """Hold what stands on a reader's page at one step.

    Args:
        presentation: Counted from 0.
        position: Within the presentation, counted from 0.
        trial: Which trial it is.
        images: The names of the images as they are shown, first to last.
        swapped: Whether they are shown in the other order than in the trial.
    """

    presentation: int
    position: int
    trial: int
    images: tuple[str, ...]
    swapped: bool


@dataclass(frozen=True)
class Plan:
    """Hold a study as it was drawn; nothing changes it.

    Args:
        kind: "2afc" (which of two is real?) or "single" (is this one real or synthetic?).
        title: What readers see above the images.
        seed: Of everything that was drawn, apart from names and tokens, which are secret.
        match: The columns by which the pools were matched.
        size: Height and width of every image in pixels.
        smooth: Whether enlarged images are interpolated; otherwise each pixel is a square.
        trials: The questions.
        readers: Who is asked.
        hashes: The SHA-256 of each image's file.
        about: Where the pools came from, the version, the date: JSON.

    Example:
        >>> trial = Trial(("a", "b"), (True, False), ("1", "7"), {"View": "PA"})
        >>> ada = Reader("Ada", "secret", ((0,),), ((True,),))
        >>> plan = Plan("2afc", "", 0, ("View",), (64, 64), False, (trial,), (ada,), {}, {})
        >>> plan.shown(ada, 0).images
        ('b', 'a')
        >>> plan.correct(plan.shown(ada, 0), choice=1)
        True
    """

    kind: str
    title: str
    seed: int
    match: tuple[str, ...]
    size: tuple[int, int]
    smooth: bool
    trials: tuple[Trial, ...]
    readers: tuple[Reader, ...]
    hashes: Mapping[str, str]
    about: Mapping[str, Any]

    @property
    def presentations(self) -> int:
        """How often each trial is shown to each reader."""
        return len(self.readers[0].orders)

    @property
    def steps(self) -> int:
        """How many answers each reader gives in all."""
        return self.presentations * len(self.trials)

    def shown(self, reader: Reader, step: int) -> Shown:
        """Return what a reader sees at a step, counted from 0 over all presentations."""
        presentation, position = divmod(step, len(self.trials))
        trial = reader.orders[presentation][position]
        swapped = reader.swapped[presentation][position]
        images = self.trials[trial].images
        return Shown(presentation, position, trial, images[::-1] if swapped else images, swapped)

    def correct(self, shown: Shown, choice: int) -> bool:
        """Return whether a choice is right.

        Args:
            shown: What was asked.
            choice: Of two images, 0 for the first on the page and 1 for the second; of one image,
                0 for real and 1 for synthetic.
        """
        real = self.trials[shown.trial].real
        return real[choice ^ shown.swapped] if self.kind == "2afc" else real[0] == (choice == 0)

    @property
    def digest(self) -> str:
        """The SHA-256 of everything in the plan; answers carry it."""
        return json_digest(self._plain(), ascii_only=False)

    def to_json(self) -> str:
        """Return the plan as `load` reads it, with its digest."""
        plain = self._plain()
        return (
            json.dumps(
                plain | {"sha256": json_digest(plain, ascii_only=False)},
                indent=1,
                ensure_ascii=False,
            )
            + "\n"
        )

    @classmethod
    def load(cls, folder: str | Path) -> "Plan":
        """Read the plan of a study's folder.

        Raises:
            StudyError: If there is none, or it is not as it was written.
        """
        file = Path(folder) / PLAN
        if not file.is_file():
            raise StudyError(f"{folder}: holds no reader study; make one with 'study new'")
        try:
            plain = json.loads(read_text(file, limit=_LARGEST, error=StudyError))
            digest = plain.pop("sha256")
            found = plain["about"]["study"], plain["about"]["schema"]
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            if isinstance(fault, StudyError):
                raise
            raise StudyError(f"{file}: is no plan of a study; make the study anew") from None
        if found != (_ABOUT, SCHEMA):
            raise StudyError(f"{file}: schema {found[1]!r}; this version reads {SCHEMA}")
        if json_digest(plain, ascii_only=False) != digest:
            raise StudyError(
                f"{file}: was changed after it was drawn, and the answers would not belong to it; "
                "bring the original back"
            )
        return _read(plain)

    def _plain(self) -> dict[str, Any]:
        about = {"study": _ABOUT, "schema": SCHEMA}
        return json.loads(json.dumps(asdict(self) | {"about": about | dict(self.about)}))


def _read(plain: dict[str, Any]) -> Plan:
    trials = [
        Trial(tuple(t["images"]), tuple(t["real"]), tuple(t["records"]), t["strata"])
        for t in plain.pop("trials")
    ]
    readers = [
        Reader(r["name"], r["token"], _nested(r["orders"]), _nested(r["swapped"]))
        for r in plain.pop("readers")
    ]
    plain |= {"match": tuple(plain["match"]), "size": tuple(plain["size"])}
    return Plan(**plain, trials=tuple(trials), readers=tuple(readers))


def _nested(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, rows))
