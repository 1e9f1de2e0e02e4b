"""Batches of a cohort for torch: shuffled, divided among ranks, resumed at any batch."""

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
    """Read records of a cohort for torch, a whole batch in one call.

    Args:
        cohort: Records that all have an image; the images of a store are fast.
        graph: The graph of the variables that batches also hold; by default none.

    Raises:
        CohortError: If a record has no image, or the table does not match the graph.

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
            `image`, (k, 1, H, W) float32 between 0 and 1; `row`, (k,) the positions; and each
            variable of the graph by its name, (k,) float64 as the equations read it.
        """
        positions = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        batch = {"image": torch.from_numpy(np.ascontiguousarray(self.images[positions]))}
        batch["row"] = torch.from_numpy(positions)
        return batch | {n: torch.from_numpy(c[positions]) for n, c in self.columns.items()}

    # Torch calls this for a batch, so that it is not assembled record by record.
    __getitems__ = __getitem__


class Order(Sampler):
    """Assign records to the batches of each rank.

    An epoch's order is a hash of the seed, the epoch and the record's position, so it is the same
    on any machine and with any number of readers. The batches of all ranks are cut from it in
    turn. The position in the epoch is the number of records read by all ranks: so a run may resume
    with another number of ranks, and each record is read once per epoch.

    Args:
        n: The number of records.
        batch: The number of records of a batch, on each rank.
        rank: This rank, from 0.
        ranks: The number of ranks.
        seed: The seed of the order.
        shuffle: Whether to shuffle.
        whole: Whether every batch is full, so that all ranks have the same number of steps; the
            remaining records are left out of that epoch. Otherwise the last batches are smaller,
            or absent on some ranks, and each record is read exactly once.

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
                f"batch {batch}, rank {rank} of {ranks}: a batch has at least 1 record, a rank is "
                "from 0 to ranks - 1"
            )
        if whole and n < batch * ranks:
            raise CohortError(
                f"{n} records do not fill a batch of {batch} on {ranks} ranks; give a smaller "
                "batch, or allow smaller last batches (whole=False)"
            )
        self.n, self.batch, self.rank, self.ranks = n, batch, rank, ranks
        self.seed, self.shuffle, self.whole = seed, shuffle, whole
        self.epoch = self.done = 0

    def __len__(self) -> int:
        """Return the number of batches that this rank has left in the epoch."""
        full, rest = divmod(self.n - self.done, self.batch * self.ranks)
        return full + (not self.whole and rest > self.rank * -(-rest // self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        order, step = self._order(), self.batch * self.ranks
        for start in range(self.done, self.n, step):
            rows = order[start : start + step]
            if len(rows) == step or not self.whole:
                # A last, smaller batch is divided evenly among the ranks.
                per_rank = -(-len(rows) // self.ranks)
                own = rows[self.rank * per_rank : (self.rank + 1) * per_rank]
                if len(own):
                    yield own.tolist()

    def _order(self) -> np.ndarray:
        places = np.arange(self.n)
        if not self.shuffle:
            return places
        # A number for each record from its position and the epoch, then sort by it.
        draws = Draws(places.astype(np.uint64), self.seed, f"order of epoch {self.epoch}")
        return np.argsort(draws.uniform()[:, 0], kind="stable")


class Batches:
    """Read a cohort in batches, epoch after epoch; an interrupted run resumes at the next batch.

    Args:
        cohort: See `CohortDataset`.
        batch: The number of records of a batch, on each rank.
        graph: See `CohortDataset`.
        readers: The number of processes that read ahead; with 0 this process reads.
        pin: Whether batches are put into pinned memory, for fast transfer to a GPU.
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
        # Clients of object storages use threads, which do not survive a fork.
        can_fork = not getattr(dataset.images, "remote", False)
        self.order = Order(
            len(dataset), batch, rank=rank, ranks=ranks, seed=seed, shuffle=shuffle, whole=whole
        )
        self._loader = DataLoader(
            dataset,
            batch_sampler=self.order,
            collate_fn=_unchanged,
            num_workers=readers,
            persistent_workers=readers > 0,
            multiprocessing_context=None if can_fork or not readers else "spawn",
            pin_memory=pin,
            # Otherwise the loader would use torch's global generator.
            generator=torch.Generator().manual_seed(self.order.seed),
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches of this epoch; the next call begins the next epoch."""
        order = self.order
        step = order.batch * order.ranks
        for batch in self._loader:
            # Counted when it is yielded, not when a reader has read it ahead.
            order.done = min(order.n, order.done + step)
            yield batch
        order.epoch, order.done = order.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Return the position of the run, as JSON: valid for any rank."""
        order = self.order
        return {"n": order.n, "seed": order.seed, "epoch": order.epoch, "done": order.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resume at the position of another run.

        Raises:
            CohortError: If that run had another number of records or another seed.
        """
        own = self.state_dict()
        for name in ("n", "seed"):
            if state.get(name) != own[name]:
                raise CohortError(
                    f"batches: {name} is {own[name]}, that of the run to resume is "
                    f"{state.get(name)}; give the same cohort and seed"
                )
        self.order.epoch, self.order.done = int(state["epoch"]), int(state["done"])


def _unchanged(batch: Batch) -> Batch:
    return batch
