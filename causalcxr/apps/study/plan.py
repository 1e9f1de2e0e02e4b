"""The plan of a reader study: the order of trials for each reader, and the truth."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from causalcxr.common.digests import json_digest
from causalcxr.common.errors import StudyError
from causalcxr.common.files import read_text

__all__ = ["KINDS", "PLAN", "SCHEMA", "Reader", "ShownTrial", "StudyPlan", "Trial"]

KINDS = ("2afc", "single")
PLAN, SCHEMA = "plan.json", 1
_LARGEST = 50_000_000  # bytes of a plan
_ABOUT = "causalcxr reader study"


@dataclass(frozen=True)
class Trial:
    """Hold one question, the same for every reader.

    Args:
        images: The names of the images: two, or one in single-image studies.
        real: Which of them are real.
        records: The record of each in its cohort.
        strata: The values that the pools were matched by, such as {"View": "PA"}.
    """

    images: tuple[str, ...]
    real: tuple[bool, ...]
    records: tuple[str, ...]
    strata: Mapping[str, str]


@dataclass(frozen=True)
class Reader:
    """Hold the trials of one reader in order.

    Args:
        name: The reader's name on the page and in the report.
        token: The secret part of the reader's link.
        orders: For each presentation, the trials in the order shown.
        swapped: For each presentation and position, whether the two images change places.
    """

    name: str
    token: str
    orders: tuple[tuple[int, ...], ...]
    swapped: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class ShownTrial:
    """Hold what a reader's page shows at one step.

    Args:
        presentation: The presentation, from 0.
        position: The position within the presentation, from 0.
        trial: The number of the trial.
        images: The names of the images in the order shown.
        swapped: Whether this order is the reverse of the trial's.
    """

    presentation: int
    position: int
    trial: int
    images: tuple[str, ...]
    swapped: bool


@dataclass(frozen=True)
class StudyPlan:
    """Hold the design of a study, which never changes.

    Args:
        kind: "2afc" (which of two is real?) or "single" (is this one real or synthetic?).
        title: The title above the images.
        seed: Of all random choices except names and tokens, which are secret.
        match: The columns by which the pools were matched.
        size: Height and width of every image in pixels.
        smooth: Whether enlarged images are interpolated; otherwise each pixel is a square.
        trials: The questions.
        readers: The readers.
        hashes: The SHA-256 of each image's file.
        about: The sources of the pools, the version, the date: JSON.

    Example:
        >>> trial = Trial(("a", "b"), (True, False), ("1", "7"), {"View": "PA"})
        >>> ada = Reader("Ada", "secret", ((0,),), ((True,),))
        >>> plan = StudyPlan("2afc", "", 0, ("View",), (64, 64), False, (trial,), (ada,), {}, {})
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
        """The number of times each trial is shown to each reader."""
        return len(self.readers[0].orders)

    @property
    def steps(self) -> int:
        """The number of answers of each reader, over all presentations."""
        return self.presentations * len(self.trials)

    def shown(self, reader: Reader, step: int) -> ShownTrial:
        """Return what a reader's page shows at a step, from 0 over all presentations."""
        presentation, position = divmod(step, len(self.trials))
        trial = reader.orders[presentation][position]
        swapped = reader.swapped[presentation][position]
        images = self.trials[trial].images
        return ShownTrial(
            presentation, position, trial, images[::-1] if swapped else images, swapped
        )

    def correct(self, shown: ShownTrial, choice: int) -> bool:
        """Return whether a choice is right.

        Args:
            shown: The trial as it was shown.
            choice: Of two images, 0 for the first on the page and 1 for the second; of one image,
                0 for real and 1 for synthetic.
        """
        real = self.trials[shown.trial].real
        return real[choice ^ shown.swapped] if self.kind == "2afc" else real[0] == (choice == 0)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the plan; files of answers record it."""
        return json_digest(self._plain(), ascii_only=False)

    def to_json(self) -> str:
        """Return the plan as `load` reads it, with its digest."""
        plain = self._plain()
        content = plain | {"sha256": json_digest(plain, ascii_only=False)}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, folder: str | Path) -> "StudyPlan":
        """Read the plan of a study's folder.

        Raises:
            StudyError: If there is no plan, or it was changed.
        """
        file = Path(folder) / PLAN
        if not file.is_file():
            raise StudyError(f"{folder}: is not a reader study; create one with 'study new'")
        try:
            # Limited in size before it is parsed.
            plain = json.loads(read_text(file, limit=_LARGEST, error=StudyError))
            digest = plain.pop("sha256")
            schema = plain["about"]["study"], plain["about"]["schema"]
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            if isinstance(fault, StudyError):
                raise
            raise StudyError(f"{file}: is not a valid plan; create the study again") from None
        # The version first: another one may have other fields.
        if schema != (_ABOUT, SCHEMA):
            raise StudyError(f"{file}: has schema {schema[1]!r}; this version reads {SCHEMA}")
        # The digest covers everything, as answers refer to trials by number only.
        if json_digest(plain, ascii_only=False) != digest:
            raise StudyError(
                f"{file}: was changed after it was drawn, so that the answers no longer match it; "
                "restore the original"
            )
        return _read(plain)

    def _plain(self) -> dict[str, Any]:
        about = {"study": _ABOUT, "schema": SCHEMA}
        return json.loads(json.dumps(asdict(self) | {"about": about | dict(self.about)}))


def _read(plain: dict[str, Any]) -> StudyPlan:
    trials = [
        Trial(tuple(t["images"]), tuple(t["real"]), tuple(t["records"]), t["strata"])
        for t in plain.pop("trials")
    ]
    readers = [
        Reader(r["name"], r["token"], _nested(r["orders"]), _nested(r["swapped"]))
        for r in plain.pop("readers")
    ]
    plain |= {"match": tuple(plain["match"]), "size": tuple(plain["size"])}
    return StudyPlan(**plain, trials=tuple(trials), readers=tuple(readers))


def _nested(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, rows))
