"""The images of phantoms: rendered when they are read, and cached."""

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import torch

from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.variables import same_name
from causalcxr.images.images import Images, Rows
from causalcxr.sources.phantom import rendering
from causalcxr.sources.phantom.patient import Patient
from causalcxr.sources.phantom.tables import FINDINGS
from causalcxr.sources.phantom.world import World

__all__ = ["BITS", "PhantomImages"]

_PIXELS = 2**20  # rendered at a time: 64 images of 128 pixels, 16 of 256
_BATCH = 64  # images rendered at a time, at most
_MAX_CACHED = 2**29  # bytes: 131,072 images of 64 pixels and 8 bits, 16,384 of 128 and 12
BITS = MappingProxyType({8: np.uint8, 12: np.uint16})  # the type of grey levels, by their bits


class PhantomImages(Images):
    """Images that are rendered when they are read, and cached as grey levels of 8 or 12 bits.

    Args:
        columns: Level positions and years of the variables, each (n,): the true values, which
            may differ from the table.
        draws: The exogenous numbers of the records.
        size: Pixels along each side.
        fixed: The columns that were set by intervention, (n,) each.
        recorded: Where the value of each such column is recorded, (n,) bool each; by default
            everywhere.
        world: The equations and the recording.
        bits: Bits of a grey level, 8 or 12.
        enriched: Whether the columns differ from those that the equations give for the draws, so
            that the images have no true twins.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        draws: Draws,
        size: int,
        fixed: Mapping[str, np.ndarray] | None = None,
        *,
        recorded: Mapping[str, np.ndarray] | None = None,
        world: World | None = None,
        bits: int = 8,
        enriched: bool = False,
    ) -> None:
        super().__init__(np.ones(len(draws), dtype=bool), synthetic=True)
        self.columns, self.draws, self.fixed = dict(columns), draws, dict(fixed or {})
        everywhere = np.ones(len(draws), dtype=bool)
        self.recorded = dict.fromkeys(self.fixed, everywhere) | dict(recorded or {})
        self.world, self.bits, self._size = world or World(), bits, size
        self.enriched = enriched
        fits = len(draws) * size**2 * np.dtype(BITS[bits]).itemsize <= _MAX_CACHED
        self._cache = np.empty((len(draws), size, size), BITS[bits]) if fits else None
        self._done = np.zeros(len(draws), dtype=bool)

    @property
    def drawn(self) -> bool:
        """Whether the records are drawn rather than observed: always true."""
        return True

    @property
    def depth(self) -> int:
        """Bits of the grey levels."""
        return self.bits

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size, self._size

    def select(self, rows: Rows) -> "PhantomImages":
        """Return the images of some of the records; the cache is kept."""
        rows = self._positions(rows)
        columns, fixed, recorded = (
            {name: column[rows] for name, column in each.items()}
            for each in (self.columns, self.fixed, self.recorded)
        )
        chosen = self.with_variables(columns, fixed, recorded, self.draws.rows(rows))
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
            ("told", self.recorded),  # a name in the fingerprints of saved results
        ):
            # Sorted, so that the order of variables does not matter.
            for name in sorted(each):
                digest.update(f"{kind}\0{name}\0".encode() + each[name].tobytes())
        return digest.hexdigest()

    def with_variables(
        self,
        columns: Mapping[str, np.ndarray],
        fixed: Mapping[str, np.ndarray],
        recorded: Mapping[str, np.ndarray],
        draws: Draws | None = None,
    ) -> "PhantomImages":
        """Return images of the same size and world for other variables."""
        return PhantomImages(
            columns,
            self.draws if draws is None else draws,
            self._size,
            fixed,
            recorded=recorded,
            world=self.world,
            bits=self.bits,
            enriched=self.enriched,
        )

    def _pixels(self, row: int) -> np.ndarray:
        return self.grey_levels(np.array([row]))[0]

    def __getitem__(self, rows: Rows) -> np.ndarray:
        return self._scaled(self.grey_levels(self._positions(rows)))[:, None]

    def grey_levels(self, rows: np.ndarray) -> np.ndarray:
        """Return images as grey levels, (k, H, W): uint8, or uint16 up to 4095."""
        out = np.empty((len(rows), *self.size), BITS[self.bits])
        todo = np.flatnonzero(~self._done[rows])
        for part in self._batches(todo):
            out[part] = self._rendered(self._patient(rows[part]))
            if self._cache is not None:
                self._cache[rows[part]] = out[part]
        if self._cache is not None:
            self._done[rows] = True
            out = self._cache[rows]
        return out

    def masks(self, finding: str, rows: Rows = slice(None)) -> np.ndarray:
        """Return the pixels that a finding changes, (k, 1, H, W) bool.

        Args:
            finding: One of the 13 findings; case is ignored, and `_` stands for a space.
            rows: A position, a slice, positions or a boolean mask.

        Raises:
            CohortError: If the finding does not exist.
        """
        name = {same_name(name): name for name in FINDINGS}.get(same_name(str(finding)))
        if name is None:
            hint = nearest(finding, FINDINGS) or f"; allowed: {', '.join(FINDINGS)}"
            raise CohortError(f"masks: no finding {str(finding)[:80]!r}{hint}")
        rows = self._positions(rows)
        out = np.empty((len(rows), 1, *self.size), dtype=bool)
        for part in self._batches(np.arange(len(rows))):
            out[part] = rendering.masks(self._patient(rows[part]), self._size, name).numpy()
        return out

    def redrawn(self, where: Mapping[str, np.ndarray], draws: Draws) -> np.ndarray:
        """Render the images with findings' own exogenous numbers drawn again, (n, 1, H, W).

        Args:
            where: Finding -> the records whose numbers of it are drawn again, (n,) bool.
            draws: Random numbers of the records other than their exogenous ones.
        """
        out = np.empty((len(self), 1, *self.size), dtype=np.float32)
        for part in self._batches(np.arange(len(self))):
            chosen = {name: torch.from_numpy(rows[part]) for name, rows in where.items()}
            patient = self._patient(part).redrawn(chosen, draws.rows(part))
            out[part] = self._scaled(self._rendered(patient))[:, None]
        return out

    def _batches(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Return rows in batches that limit the memory of rendering."""
        batch = max(1, min(_BATCH, _PIXELS // self._size**2))
        yield from (rows[start : start + batch] for start in range(0, len(rows), batch))

    def _patient(self, rows: np.ndarray) -> Patient:
        columns = {name: torch.from_numpy(column[rows]) for name, column in self.columns.items()}
        return Patient(columns, self.draws.rows(rows))

    def _scaled(self, levels: np.ndarray) -> np.ndarray:
        """Return grey levels as numbers between 0 and 1."""
        return levels.astype(np.float32) / np.float32(2**self.bits - 1)

    def _rendered(self, patient: Patient) -> np.ndarray:
        images = rendering.render(patient, self._size, race_signal=self.world.race_signal)
        return (images[:, 0] * (2**self.bits - 1)).round().numpy().astype(BITS[self.bits])
