"""The films of phantoms: computed when they are asked for, and kept."""

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import torch

from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.variables import same_name
from causalcxr.images.images import Images, Rows
from causalcxr.sources.phantom import film
from causalcxr.sources.phantom.patient import Patient
from causalcxr.sources.phantom.tables import FINDINGS
from causalcxr.sources.phantom.world import World

__all__ = ["BITS", "PhantomImages"]

_PIXELS = 2**20  # filmed at a time: 64 films of 128 pixels, 16 of 256
_BATCH = 64  # films at a time, at most
_MOST_CACHED = 2**29  # bytes of films kept: 131,072 of 64 pixels and 8 bits, 16,384 of 128 and 12
BITS = MappingProxyType({8: np.uint8, 12: np.uint16})  # of a grey level, and how it is kept


class PhantomImages(Images):
    """Films that are computed when they are asked for, and kept as grey levels of 8 or 12 bits.

    Args:
        columns: Level positions and years of the variables, each (n,): what is true, whatever
            the table says.
        draws: The exogenous numbers of the records.
        size: Pixels along each side.
        fixed: Those of the columns that were set by intervention, (n,) each.
        told: Where the value that each was set to is known, (n,) bool each; by default everywhere.
        world: Which equations hold and what is written down.
        bits: Of a grey level, 8 or 12.
        enriched: Whether the columns are not what the equations give of the draws, so that the
            images have no true twins.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        draws: Draws,
        size: int,
        fixed: Mapping[str, np.ndarray] | None = None,
        *,
        told: Mapping[str, np.ndarray] | None = None,
        world: World | None = None,
        bits: int = 8,
        enriched: bool = False,
    ) -> None:
        super().__init__(np.ones(len(draws), dtype=bool), synthetic=True)
        self.columns, self.draws, self.fixed = dict(columns), draws, dict(fixed or {})
        everywhere = np.ones(len(draws), dtype=bool)
        self.told = dict.fromkeys(self.fixed, everywhere) | dict(told or {})
        self.world, self.bits, self._size = world or World(), bits, size
        self.enriched = enriched
        few = len(draws) * size**2 * np.dtype(BITS[bits]).itemsize <= _MOST_CACHED
        self._cache = np.empty((len(draws), size, size), BITS[bits]) if few else None
        self._done = np.zeros(len(draws), dtype=bool)

    @property
    def drawn(self) -> bool:
        """Phantoms are drawn from nothing."""
        return True

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size, self._size

    def select(self, rows: Rows) -> "PhantomImages":
        """Return the films of some of the records; what has been computed is kept."""
        rows = self._positions(rows)
        columns, fixed, told = (
            {name: column[rows] for name, column in each.items()}
            for each in (self.columns, self.fixed, self.told)
        )
        chosen = self.of(columns, fixed, told, self.draws.rows(rows))
        if self._cache is not None and chosen._cache is not None:
            chosen._done = self._done[rows]
            chosen._cache[chosen._done] = self._cache[rows[chosen._done]]
        return chosen

    def fingerprint(self) -> str:
        """Return the SHA-256 of the equations' settings, the variables and the noise."""
        settings = (self._size, self.bits, self.world, self.draws.seed, self.draws.stream)
        digest = hashlib.sha256(repr(settings).encode())
        arrays = {"keys": self.draws.keys, "draw": np.asarray(self.draws.draw)}
        for kind, each in (
            ("", arrays),
            ("column", self.columns),
            ("fixed", self.fixed),
            ("told", self.told),
        ):
            for name in sorted(each):
                digest.update(f"{kind}\0{name}\0".encode() + each[name].tobytes())
        return digest.hexdigest()

    def of(
        self,
        columns: Mapping[str, np.ndarray],
        fixed: Mapping[str, np.ndarray],
        told: Mapping[str, np.ndarray],
        draws: Draws | None = None,
    ) -> "PhantomImages":
        """Return films of the same kind, size and world for other variables."""
        draws = self.draws if draws is None else draws
        kind = {
            "told": told, "world": self.world, "bits": self.bits, "enriched": self.enriched,
        }  # fmt: skip
        return PhantomImages(columns, draws, self._size, fixed, **kind)

    def _pixels(self, row: int) -> np.ndarray:
        return self.grey_levels(np.array([row]))[0]

    def __getitem__(self, rows: Rows) -> np.ndarray:
        levels = self.grey_levels(self._positions(rows))
        return levels[:, None].astype(np.float32) / np.float32(2**self.bits - 1)

    def grey_levels(self, rows: np.ndarray) -> np.ndarray:
        """Return films as grey levels, (k, H, W): uint8, or uint16 up to 4095."""
        out = np.empty((len(rows), *self.size), BITS[self.bits])
        todo = np.flatnonzero(~self._done[rows])
        for part in self._batches(todo):
            out[part] = self._film(rows[part])
            if self._cache is not None:
                self._cache[rows[part]] = out[part]
        if self._cache is not None:
            self._done[rows] = True
            out = self._cache[rows]
        return out

    def masks(self, finding: str, rows: Rows = slice(None)) -> np.ndarray:
        """Return the pixels that a finding changes, (k, 1, H, W) bool.

        Args:
            finding: One of the 13, whatever the case and with `_` for a space.
            rows: A position, a slice, positions or a boolean mask.

        Raises:
            CohortError: If there is no such finding.
        """
        name = {same_name(name): name for name in FINDINGS}.get(same_name(str(finding)))
        if name is None:
            hint = nearest(str(finding)[:80], FINDINGS) or f"; one of {', '.join(FINDINGS)}"
            raise CohortError(f"masks: no finding {str(finding)[:80]!r}{hint}")
        rows = self._positions(rows)
        out = np.empty((len(rows), 1, *self.size), dtype=bool)
        for part in self._batches(np.arange(len(rows))):
            out[part] = film.masks(self._patient(rows[part]), self._size, name).numpy()
        return out

    def _batches(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Return rows in batches whose rays fit into little memory."""
        few = max(1, min(_BATCH, _PIXELS // self._size**2))
        yield from (rows[start : start + few] for start in range(0, len(rows), few))

    def _patient(self, rows: np.ndarray) -> Patient:
        columns = {name: torch.from_numpy(column[rows]) for name, column in self.columns.items()}
        return Patient(columns, self.draws.rows(rows))

    def _film(self, rows: np.ndarray) -> np.ndarray:
        patient, signal = self._patient(rows), self.world.race_signal
        films = film.render(patient, self._size, race_signal=signal)
        return (films[:, 0] * (2**self.bits - 1)).round().numpy().astype(BITS[self.bits])
