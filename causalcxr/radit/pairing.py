"""The pairing of noise and images: batch optimal transport within equal parents.

Pairing noise with the nearest images of a batch straightens the paths, and makes the learned map
nearer to the gradient of a convex function, which identifies a counterfactual in many dimensions.
Over a whole batch, the noise would then depend on the parents; within records whose parents are
equal, as the network sees them, it does not.

References:
    De Sousa Ribeiro et al., arXiv:2510.08294 (Markovian batch optimal transport).
    Multisample Flow Matching (Pooladian et al.), arXiv:2304.14772.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

__all__ = ["PAIRINGS", "equal_parents", "within_parents"]


def equal_parents(columns: dict[str, Tensor], n: int) -> Tensor:
    """Number the groups of rows whose values are all equal; missing equals missing.

    Args:
        columns: The parents, each (n,).
        n: The number of rows, for the case without columns.

    Example:
        >>> nan = torch.nan
        >>> equal_parents({"Age": torch.tensor([nan, 5.0, nan, 5.0])}, 4).tolist()
        [0, 1, 0, 1]
    """
    if not columns:
        return torch.zeros(n, dtype=torch.long)
    x = torch.stack(list(columns.values()), 1).double().cpu()
    # NaN is unequal to itself: a number that no parent takes stands for missing.
    return (
        torch.unique(x.nan_to_num(nan=-1e300), dim=0, return_inverse=True)[1]
        if len(x)
        else torch.zeros(0, dtype=torch.long)
    )


def within_parents(noise: Tensor, images: Tensor, columns: dict[str, Tensor]) -> Tensor:
    """Return the noise in the order that is nearest to the images, group by group.

    Args:
        noise: Standard normal, (B, ...).
        images: (B, ...).
        columns: The parents as the network sees them, each (B,).
    """
    # Start from the order as drawn; groups of one record keep theirs.
    groups, order = equal_parents(columns, len(images)), torch.arange(len(images))
    for group in groups.unique():
        rows = (groups == group).nonzero()[:, 0]
        if len(rows) > 1:
            # |u - x|^2 = |u|^2 + |x|^2 - 2 u x: only the last term depends on the pairing.
            agreement = images[rows].flatten(1) @ noise[rows].flatten(1).T
            order[rows] = rows[linear_sum_assignment(agreement.cpu(), maximize=True)[1]]
    return noise[order]


# Name in a configuration -> pairing.
PAIRINGS = {"none": None, "ot": within_parents}
