"""One run on several processes: the division of a batch, and the reduction of gradients.

Each process computes its rows of every batch. With `ddp` all of them hold the whole network; with
`fsdp` each holds its part of weights, gradients and optimiser, and a block is gathered when it is
needed. Both are torch's own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from causalcxr.common.errors import ModelError
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT

__all__ = [
    "Processes",
    "distributed_like",
    "gathered",
    "joined",
    "local_part",
    "parallel_model",
    "synchronised_last",
]


@dataclass(frozen=True)
class Processes:
    """The processes that train together, and the rank of this one.

    Example:
        >>> Processes(rank=1, ranks=2).rows(8)
        slice(4, 8, None)
    """

    rank: int = 0
    ranks: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Return the processes that torch has joined; otherwise this one alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports for all."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """Return the rows of a batch that this process computes.

        Raises:
            ModelError: If the processes cannot divide the batch evenly.
        """
        each, rest = divmod(batch, self.ranks)
        if rest or not each:
            raise ModelError(
                f"a batch of {batch} cannot be divided between {self.ranks} processes; make it a "
                f"multiple of {self.ranks}"
            )
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a number over all processes."""
        if self.ranks > 1:
            # `all_reduce` works in place: keep the caller's tensor.
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.ranks
        return value

    def agree(self, flag: bool, device: torch.device) -> bool:
        """Return the leading process's flag, so that all do the same; clocks differ."""
        if self.ranks == 1:
            return flag
        shared_flag = torch.tensor(flag, dtype=torch.uint8, device=device)
        distributed.broadcast(shared_flag, 0)
        return bool(shared_flag)


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes that `torchrun` has started, if any, for the duration of the block.

    Args:
        device: cpu or cuda.

    Yields:
        The processes, and the device of this one.
    """
    # Not started by torchrun, or already joined: nothing to set up or to end.
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        yield Processes.current(), device
        return
    cuda = device.startswith("cuda")
    # One graphics card per process, by its number on this machine.
    if cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    at = {"device_id": torch.device(device)} if cuda else {}
    distributed.init_process_group("nccl" if cuda else "gloo", **at)
    try:
        yield Processes.current(), device
    finally:
        distributed.destroy_process_group()


def parallel_model(
    net: RadiT, config: TrainConfig, processes: Processes, device: torch.device
) -> nn.Module:
    """Return the network, or a wrapper of it that reduces gradients over processes."""
    if processes.ranks == 1:
        return net
    if config.parallel == "ddp":
        return DistributedDataParallel(net, [device] if device.type == "cuda" else None)
    # Imported here, as only `fsdp` needs them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (processes.ranks,))
    half = torch.bfloat16 if config.precision != "fp32" else None
    # Gradients are reduced over processes in fp32, whatever the precision of the products.
    policy = MixedPrecisionPolicy(
        param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    # Block by block, so that weights are gathered one block at a time.
    for block in net.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(net, mesh=mesh, mp_policy=policy)


@contextmanager
def synchronised_last(model: nn.Module, last: bool) -> Iterator[None]:
    """Reduce gradients over processes with the last part of a batch only."""
    if isinstance(model, DistributedDataParallel):
        with nullcontext() if last else model.no_sync():
            yield
        return
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(last)
    yield


def gathered(value: Tensor) -> Tensor:
    """Return a tensor gathered from all processes; all must call this."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def distributed_like(value: Tensor, like: Tensor) -> Tensor:
    """Return a tensor distributed over processes in the same way as another one.

    Args:
        value: The same on every process, so that nothing is sent.
        like: A tensor of the same shape.
    """
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def local_part(value: Tensor) -> Tensor:
    """Return this process's part of a tensor, in the same memory."""
    return value.to_local() if hasattr(value, "to_local") else value
