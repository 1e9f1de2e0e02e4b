"""Batches of a cohort for torch: shuffled, shared out over ranks, and taken up again anywhere."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Graph

__all__ = ["Batches", "CohortDataset", "Order"]

Batch = dict[str, torch.Tensor]


class CohortDataset(Dataset):
    """Give records of a cohort to torch, a whole batch in one call.

    Args:
        cohort: Records that all have an image; any images will do, those of a store are quick.
        graph: Its variables are given, too.

    Raises:
        CohortError: If a record has no image, or the table does not fit the graph.

    Example:
        >>> cohort = Cohort.load("phantom", n=3, size=32)
        >>> CohortDataset(cohort, Graph.load("mini"))[[2, 0]]["image"].shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(self, cohort: Cohort, graph: Graph | None = None) -> None:
        if cohort.images is None or not cohort.images.available.all():
            raise CohortError("not every record has an image; use cohort.with_images_only()")
        self.images = cohort.images
        self.columns = {} if graph is None else cohort.columns(graph)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: int | Sequence[int]) -> Batch:
        """Return records by their positions.

        Returns:
            `image`, (k, 1, H, W) float32 between 0 and 1; `row`, (k,) the positions; each
            variable of the graph under its name, (k,) float64 as the equations read it.
        """
        places = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        found = {"image": torch.from_numpy(np.ascontiguousarray(self.images[places]))}
        found["row"] = torch.from_numpy(places)
        return found | {n: torch.from_numpy(c[places]) for n, c in self.columns.items()}

    # What torch asks for when it wants a batch: nothing is put together record by record.
    __getitems__ = __getitem__


class Order(Sampler):
    """Decide which records come in which batch of which rank.

    An epoch's order is a hash of the seed, the epoch and the record's position, so it is the same
    on any machine and with any number of readers. The batches of all ranks together are cut from
    it in turn. What is counted is how many records were given, to all: so a run may go on with
    another number of ranks, and no record is given twice in an epoch, or left out.

    Args:
        n: Number of records.
        batch: Records of a batch, on each rank.
        rank: Which of the ranks this is.
        ranks: How many there are.
        seed: Another seed, other orders.
        shuffle: Whether to shuffle at all.
        whole: Whether every batch is whole, so that all ranks make as many steps: what does not
            fill one is left out of that epoch. Otherwise the last batches are smaller, or absent
            on some ranks, and each record is given exactly once.

    Example:
        >>> ranks = [Order(10, 2, rank=k, ranks=2, seed=1) for k in range(2)]
        >>> given = [row for order in ranks for rows in order for row in rows]
        >>> len(given), len(set(given))
        (8, 8)
    """

    def __init__(
        self,
        n: int,
        batch: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        whole: bool = True,
    ) -> None:
        if batch < 1 or not 0 <= rank < ranks:
            raise CohortError(
                f"batch {batch}, rank {rank} of {ranks}: ask for rank 0 to ranks - 1"
            )
        if whole and n < batch * ranks:
            raise CohortError(
                f"{n} records do not fill a batch of {batch} on {ranks} ranks; make it smaller, "
                "or allow smaller ones (whole=False)"
            )
        self.n, self.batch, self.rank, self.ranks = n, batch, rank, ranks
        self.seed, self.shuffle, self.whole = seed, shuffle, whole
        self.epoch = self.done = 0

    def __len__(self) -> int:
        """Return how many batches this rank has left in the epoch."""
        full, rest = divmod(self.n - self.done, self.batch * self.ranks)
        return full + (not self.whole and rest > self.rank * -(-rest // self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        order, together = self._order(), self.batch * self.ranks
        for start in range(self.done, self.n, together):
            rows = order[start : start + together]
            if len(rows) == together or not self.whole:
                each = -(-len(rows) // self.ranks)
                mine = rows[self.rank * each : (self.rank + 1) * each]
                if len(mine):
                    yield mine.tolist()

    def _order(self) -> np.ndarray:
        places = np.arange(self.n)
        if not self.shuffle:
            return places
        draws = Draws(places.astype(np.uint64), self.seed, f"order of epoch {self.epoch}")
        return np.argsort(draws.uniform()[:, 0], kind="stable")


class Batches:
    """Read a cohort in batches, epoch after epoch; an interrupted run goes on with the next one.

    Args:
        cohort: See `CohortDataset`.
        batch: Records of a batch, on each rank.
        graph: See `CohortDataset`.
        readers: Processes that read ahead; with 0 this one reads.
        pin: Whether batches are put where a GPU can fetch them by itself.
        rank: See `Order`.
        ranks: See `Order`.
        seed: See `Order`.
        shuffle: See `Order`.
        whole: See `Order`.

    Example:
        >>> batches = Batches(Cohort.load("phantom", n=7, size=32), batch=2, seed=1)
        >>> first = [next(iter(batches))["row"].tolist(), batches.state_dict()["done"]]
        >>> again = Batches(Cohort.load("phantom", n=7, size=32), batch=2, seed=1)
        >>> again.load_state_dict(batches.state_dict())
        >>> len(list(again)), again.state_dict()["epoch"]
        (2, 1)
    """

    def __init__(
        self,
        cohort: Cohort,
        batch: int,
        *,
        graph: Graph | None = None,
        readers: int = 0,
        pin: bool = False,
        rank: int = 0,
        ranks: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        whole: bool = True,
    ) -> None:
        dataset = CohortDataset(cohort, graph)
        # Clients of object storages have threads, which a forked process would be without.
        forked = not getattr(dataset.images, "remote", False)
        self.order = Order(
            len(dataset), batch, rank=rank, ranks=ranks, seed=seed, shuffle=shuffle, whole=whole
        )
        self._loader = DataLoader(
            dataset,
            batch_sampler=self.order,
            collate_fn=_as_it_is,
            num_workers=readers,
            persistent_workers=readers > 0,
            multiprocessing_context=None if forked or not readers else "spawn",
            pin_memory=pin,
            # Otherwise the loader would take numbers from torch's own generator.
            generator=torch.Generator().manual_seed(self.order.seed),
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of this epoch; the next call begins the next one."""
        order = self.order
        together = order.batch * order.ranks
        for batch in self._loader:
            # Counted when it is given, not when a reader has read it ahead.
            order.done = min(order.n, order.done + together)
            yield batch
        order.epoch, order.done = order.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Return where the run is, as JSON: valid for any rank."""
        order = self.order
        return {"n": order.n, "seed": order.seed, "epoch": order.epoch, "done": order.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where another run was.

        Raises:
            CohortError: If that run read other records, or in another order.
        """
        mine = self.state_dict()
        for name in ("n", "seed"):
            if state.get(name) != mine[name]:
                raise CohortError(
                    f"batches: {name} is {mine[name]}, of the run to go on with it was "
                    f"{state.get(name)}; give the same cohort and seed"
                )
        self.order.epoch, self.order.done = int(state["epoch"]), int(state["done"])


def _as_it_is(batch: Batch) -> Batch:
    return batch
