"""Noise is paired with images within equal parents, so that it cannot tell the parents."""

import torch

from causalcxr.radit.pairing import PAIRINGS, equal_parents, within_parents


def batch(n=600, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sex = (torch.rand(n, generator=generator) < 0.5).float()
    view = torch.where(torch.rand(n, generator=generator) < 0.2, torch.nan, sex.flip(0))
    # Images whose first pixel tells the sex.
    x = torch.randn(n, 1, 2, 2, generator=generator)
    x[:, 0, 0, 0] += 6 * sex
    return torch.randn(n, 1, 2, 2, generator=generator), x, {"Sex": sex, "View": view}


def test_equal_parents_include_missing_ones():
    _, _, columns = batch()
    groups = equal_parents(columns, 600)
    assert len(groups.unique()) == 6
    told = torch.stack([columns["Sex"], columns["View"].nan_to_num(nan=9)], 1)
    for group in groups.unique():
        assert len(told[groups == group].unique(dim=0)) == 1
    assert not equal_parents({}, 5).any()


def test_pairing_moves_noise_nearer_and_loses_none():
    noise, x, columns = batch()
    paired = within_parents(noise, x, columns)
    assert (paired - x).square().sum() < 0.8 * (noise - x).square().sum()
    order = noise.flatten(1)[:, 0].argsort()
    again = paired.flatten(1)[:, 0].argsort()
    assert torch.equal(noise[order], paired[again])


def test_pairing_keeps_noise_independent_of_the_parents():
    noise, x, columns = batch(1200)
    male = columns["Sex"] == 1

    def told(pairs):
        first = pairs[:, 0, 0, 0]
        return (first[male].mean() - first[~male].mean()).abs().item()

    error = (4 / 1200) ** 0.5
    assert told(within_parents(noise, x, columns)) < 4 * error
    assert told(within_parents(noise, x, {})) > 20 * error


def test_noise_of_different_parents_is_not_reordered():
    noise, x, _ = batch(20)
    assert torch.equal(within_parents(noise, x, {"Age": torch.arange(20.0)}), noise)
    assert PAIRINGS["none"] is None
