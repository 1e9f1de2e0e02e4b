"""The part of the report about radiographs: records, twins and differences, on one scale."""

import base64
import io
from dataclasses import dataclass
from math import ceil

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from causalcxr.audit.report.formatting import number, shortened
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.comparison import Comparison
from causalcxr.images.marked_png import marked

__all__ = ["CaptionedImage", "Grid", "Trio", "grid"]

_SIDE = 256  # pixels at most
_COLOURS = "RdBu_r"  # red where the twin is brighter; distinct without colour vision, too
_LEAST = 0.02  # a scale of differences narrower than this would show rounding


@dataclass(frozen=True)
class CaptionedImage:
    """Hold an image as a data URL, its title and its alternative text."""

    source: str
    title: str
    alt: str


@dataclass(frozen=True)
class Trio:
    """Hold a record, its twin and their difference."""

    name: str
    changes: str
    before: float
    after: float
    pictures: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class Grid:
    """Hold what is shown, and the scale of all differences.

    Args:
        moved: Patients whose score changed most.
        typical: Patients whose change is nearest to the median.
        scale: The difference at the ends of the colours.
        bar: The colour bar, an image.
    """

    moved: tuple[Trio, ...]
    typical: tuple[Trio, ...]
    scale: float
    bar: str


def grid(
    factual: Cohort, twin: Cohort, records: pd.DataFrame, action: str, patients: int
) -> Grid | None:
    """Return radiographs of a few patients, None where there are none.

    Args:
        factual: The records, a row a pair.
        twin: Their twins.
        records: A row a pair: `patient`, the scores `factual` and `twin`, `valid`.
        action: The intervention, in words.
        patients: Number of patients whose score changed most; half as many typical ones follow.
    """
    if factual.images is None or twin.images is None or patients < 1:
        return None
    # Both sides need an image.
    available = np.asarray(factual.images.available) & np.asarray(twin.images.available)
    # The largest changes, and typical ones: the largest alone would mislead.
    most, usual = _chosen(records, available, patients)
    if not len(most):
        return None
    rows = np.concatenate([most, usual])
    sides = [cohort.images.select(rows) for cohort in (factual, twin)]
    before, after = (np.stack([_small(i[0]) for i in images[:]]) for images in sides)
    synthetic = list(zip(*(images.synthetic.tolist() for images in sides), strict=True))
    # One scale for all differences, so that their colours are comparable.
    scale = max(float(np.quantile(np.abs(after - before), 0.999)), _LEAST)
    comparison = Comparison(factual, twin)
    trios = [
        _trio(
            _name(factual.index[row]),
            records.iloc[row],
            action,
            comparison.changes(row),
            (before[k], after[k]),
            synthetic[k],
            scale,
        )
        for k, row in enumerate(rows)
    ]
    ramp = _coloured(np.linspace(-scale, scale, 256)[None].repeat(12, axis=0), scale)
    return Grid(tuple(trios[: len(most)]), tuple(trios[len(most) :]), scale, _png(ramp))


def _chosen(
    records: pd.DataFrame, available: np.ndarray, patients: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of patients whose score changed most, and of typical ones; a row a patient."""
    change = (records["twin"] - records["factual"]).abs().to_numpy(float)
    rows = np.flatnonzero(records["valid"].to_numpy() & ~np.isnan(change) & available)
    person = records["patient"].to_numpy()

    def first(order: np.ndarray) -> np.ndarray:
        return order[~pd.Series(person[order]).duplicated().to_numpy()]

    most = first(rows[np.argsort(-change[rows], kind="stable")])[:patients]
    # No patient is shown twice.
    rest = rows[~np.isin(person[rows], person[most])]
    if not len(rest):
        return most, rest
    distance = np.abs(change[rest] - np.median(change[rows]))
    return most, first(rest[np.argsort(distance, kind="stable")])[: ceil(patients / 2)]


def _name(label: object) -> str:
    return f"{label[0]} · draw {label[1]}" if isinstance(label, tuple) else str(label)


def _trio(
    name: str,
    scores: pd.Series,
    action: str,
    changes: str,
    images: tuple[np.ndarray, np.ndarray],
    synthetic: tuple[bool, bool],
    scale: float,
) -> Trio:
    """Return a record, its twin and their difference; `synthetic` says which images are."""
    before, after = images
    difference = after - before
    changed = f", in which changed: {changes}" if changes else ""
    kind = "Synthetic twin" if synthetic[1] else "Unchanged twin"
    pictures = (
        CaptionedImage(
            _grey(before, synthetic[0]),
            "record",
            f"Radiograph of record {name}; score {number(scores['factual'])}",
        ),
        CaptionedImage(
            _grey(after, synthetic[1]),
            "twin",
            f"{kind} of {name} under {action}{changed}; score {number(scores['twin'])}",
        ),
        CaptionedImage(
            _red_and_blue(difference, scale, any(synthetic)),
            "difference",
            f"Twin minus record of {name}, from {number(difference.min(), 2, signed=True)} to "
            f"{number(difference.max(), 2, signed=True)}, mean absolute difference "
            f"{number(np.abs(difference).mean(), 4)}",
        ),
    )
    return Trio(shortened(name, 60), changes, scores["factual"], scores["twin"], pictures)


def _small(image: np.ndarray) -> np.ndarray:
    """Return an image of at most `_SIDE` pixels a side, by means over pixels."""
    image, most = np.asarray(image, dtype=np.float32), max(image.shape)
    if most <= _SIDE:
        return image
    size = [max(1, round(side * _SIDE / most)) for side in image.shape[::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _grey(image: np.ndarray, synthetic: bool) -> str:
    """Return a radiograph; a synthetic one has the mark on a strip below it."""
    levels = np.round(np.clip(image, 0, 1) * 65535).astype(np.uint16)
    with_mark = marked(levels)
    return _png((with_mark if synthetic else with_mark[: _enlarged(levels).shape[0]]) // 257)


def _red_and_blue(difference: np.ndarray, scale: float, synthetic: bool) -> str:
    """Return a difference of images, with the mark below it if one of them is synthetic."""
    picture = _coloured(_enlarged(difference), scale)
    if not synthetic:
        return _png(picture)
    strip = marked(np.zeros(difference.shape, dtype=np.uint16))[len(picture) :] // 257
    return _png(np.vstack([picture, np.repeat(strip[..., None], 3, axis=2)]))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Return an image as large as `marked` makes it, each pixel a square."""
    times = -(-_SIDE // image.shape[1])
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _coloured(difference: np.ndarray, scale: float) -> np.ndarray:
    shade = mpl.colormaps[_COLOURS]((difference / scale + 1) / 2)
    return np.round(255 * shade[..., :3])


def _png(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
