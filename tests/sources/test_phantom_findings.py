"""The effect of each finding on the image: its place, size and side, and no other pixel."""

from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import ndtri
from torch.nn.functional import max_pool2d

from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.sources.phantom import rendering
from causalcxr.sources.phantom.body import build_body, camera
from causalcxr.sources.phantom.patient import NUMBERS, SIDES, Patient
from causalcxr.sources.phantom.physics import line_integral
from causalcxr.sources.phantom.solids import Solids
from causalcxr.sources.phantom.tables import FINDINGS

AP, PA, LATERAL = 0, 1, 2
DEVICES, ATELECTASIS, FRACTURE = "Support Devices", "Atelectasis", "Fracture"
# The region of a finding on a PA image, in fractions of the lungs' shadow: 0 the apex and 1 the
# lowest point; 0 the middle and 1 the outermost point.
REGIONS = {
    "Cardiomegaly": ((0.15, 1.0), (0.0, 0.95)),
    "Edema": ((0.0, 1.0), (0.0, 1.0)),
    "Pleural Other": ((0.0, 0.9), (0.1, 1.1)),
    "Pneumonia": ((0.2, 1.0), (0.05, 1.0)),
    FRACTURE: ((0.1, 1.0), (0.5, 1.2)),
    "Pneumothorax": ((0.0, 1.0), (0.0, 1.1)),
    "Enlarged Cardiomediastinum": ((0.0, 0.65), (0.0, 0.5)),
    "Consolidation": ((0.05, 0.95), (0.05, 1.0)),
    "Pleural Effusion": ((0.33, 1.0), (0.0, 1.1)),
    "Lung Opacity": ((0.05, 0.9), (0.05, 1.0)),
    "Lung Lesion": ((0.0, 0.9), (0.05, 1.0)),
}
# All findings, of which only those of several kinds run in the fast suite.
SOME_FAST = [
    finding
    if finding in (DEVICES, FRACTURE, "Edema", "Lung Lesion")
    else pytest.param(finding, marks=pytest.mark.slow)
    for finding in FINDINGS
]
# The number that places a finding of two sides, and whether it may have both.
PLACED = {
    "Pleural Effusion": ("effusion side", True),
    "Consolidation": ("consolidation side", True),
    "Pneumonia": ("pneumonia side", True),
    "Lung Opacity": ("opacity side", True),
    ATELECTASIS: ("atelectasis side", True),
    "Pneumothorax": ("pneumothorax side", False),
    "Pleural Other": ("pleura side", True),
    "Lung Lesion": ("lesion side", False),
    FRACTURE: ("fracture side", False),
}


def people(n, seed, **columns):
    """Return n adults without findings, imaged PA, with the given columns."""
    random = np.random.default_rng(seed)
    usual = dict.fromkeys(FINDINGS, 0) | {"Race": 2, "View": PA, "Dataset": 0}
    usual |= {"Age": random.uniform(20, 95, n).round(), "Sex": random.integers(0, 2, n)}
    every = {k: torch.as_tensor(v).double().expand(n) for k, v in (usual | columns).items()}
    return Patient(every, Draws(record_keys(pd.RangeIndex(n)), seed))


def having(p, **values):
    """Return the same patients with other values; _ stands for a space."""
    n = len(p.draws)
    every = {k.replace("_", " "): torch.as_tensor(v).double() for k, v in values.items()}
    return p.with_columns({k: v.expand(n) for k, v in every.items()})


def with_numbers(p, **numbers):
    """Return the same patients with other exogenous numbers, uniform; _ stands for a space."""
    uniform = torch.stack([p.u(name) for name in NUMBERS], 1)
    for name, value in numbers.items():
        uniform[:, NUMBERS.index(name.replace("_", " "))] = value
    other = Patient(p.columns, p.draws)
    normal = torch.from_numpy(ndtri(uniform.numpy())).clamp(-3, 3)
    other.__dict__.update(_uniform=uniform, _normal=normal)
    return other


def grown(where):
    """Return where (B, H, W) with a border of one pixel."""
    return max_pool2d(where.float()[:, None], 3, 1, 1)[:, 0] > 0


def shadow(p, balls, size):
    balls = replace(balls, mu=torch.ones_like(balls.mu))
    return line_integral([balls], camera(p), size) > 0


def first(balls, k):
    return Solids(balls.shape[:, :k], balls.centre[:, :k], balls.mu[:, :k])


def lungs(p, size=64):
    """Return the shadows of the right and left cavity, (B, size, size)."""
    return [shadow(p, first(lung.region, 1), size) for lung in build_body(p).lungs]


def places(where):
    """Return how far down and out each pixel lies, in shares of a shadow, (B, H, W) each."""
    size = where.shape[-1]
    rows, columns = where.any(2).double(), where.any(1).double()
    at = torch.arange(size).double()
    top, high = rows.argmax(1)[:, None, None], rows.sum(1)[:, None, None]
    left, wide = columns.argmax(1)[:, None, None], columns.sum(1)[:, None, None]
    down = (at[None, :, None] + 0.5 - top) / high
    out = (at[None, None, :] + 0.5 - left) / wide * 2 - 1
    return down.expand(where.shape), out.expand(where.shape)


def first_of(p, n):
    """Return the first n patients."""
    return Patient({k: v[:n] for k, v in p.columns.items()}, p.draws.rows(np.arange(n)))


def traced(p, size=64):
    """Return attenuation and image of patients, (B, size, size) each, following the rays once."""
    attenuation = rendering.attenuation(p, size)
    with patch.object(rendering, "attenuation", lambda *_: attenuation):
        return attenuation[:, 0], rendering.render(p, size)[:, 0]


@cache
def healthy(size=64, n=16):
    """Return attenuation and image of the adults of `seen` without findings."""
    return traced(first_of(people(16, 4), n), size)


@cache
def seen(finding, size=64, n=16):
    """Return adults with one finding alone, its masks and their images, (n, size, size) each."""
    p = first_of(people(16, 4, **{finding: 1}), n)
    attenuation, image = traced(p, size)
    return p, (attenuation - healthy(size, n)[0]).abs() > rendering.VISIBLE, image


# Every finding changes the image, and no other pixel


@pytest.mark.parametrize("finding", FINDINGS)
def test_finding_changes_only_the_pixels_it_covers(finding):
    n, random = 12, np.random.default_rng(3)
    tossed = {name: random.integers(0, 2, n) for name in FINDINGS}
    ages = np.where(np.arange(n) % 4 == 3, random.integers(0, 16, n), random.integers(20, 95, n))
    place = {"View": np.arange(n) % 3, "Dataset": np.arange(n) % 7, "Age": ages}
    p = people(n, 8, **(tossed | place))
    p = having(p, **{finding: np.arange(n) < 8})  # the last four do not have it
    absent = having(p, **{finding: 0})
    (attenuation, images), (attenuation_without, without) = traced(p), traced(absent)
    change = attenuation - attenuation_without
    mask = change.abs() > rendering.VISIBLE
    differ = images != without
    assert not mask[8:].any()
    assert torch.equal(images[8:], without[8:])
    assert not (differ & ~grown(change != 0)).any()
    open_ = (images > 0) & (images < 1)
    assert differ[mask & open_].double().mean() > 0.9
    assert mask[:8].any((1, 2)).sum() >= 7  # a spot may lie in what has no air
    assert (change != 0).flatten(1).double().mean(1).max() < 0.7


def test_masks_are_visible_changes_of_attenuation():
    p = people(6, 4, Edema=np.arange(6) < 4)
    change = rendering.attenuation(p, 64) - rendering.attenuation(having(p, Edema=0), 64)
    assert torch.equal(rendering.masks(p, 64, "Edema"), change.abs() > rendering.VISIBLE)


@pytest.mark.parametrize("finding", SOME_FAST)
def test_mask_covers_the_same_share_at_any_size(finding):
    n = {32: 8, 64: 16, 128: 8}  # those of 64 pixels are shared with other tests
    shares = {
        size: seen(finding, size, n[size])[1][:8].flatten(1).double().mean(1)
        for size in (32, 64, 128)
    }
    ratio = shares[64].mean() / shares[128].mean()
    # What is thinner than a pixel, metal above all, is drawn one pixel wide.
    assert 0.9 < ratio < (2.2 if finding == DEVICES else 1.1)
    assert 0.8 < shares[32].mean() / shares[128].mean() < (4 if finding == DEVICES else 1.5)
    if finding != DEVICES:
        assert np.corrcoef(shares[64], shares[128])[0, 1] > 0.9


# Where radiology says


@pytest.mark.parametrize("finding", REGIONS)
def test_mask_lies_in_the_expected_region(finding):
    p, mask, _ = seen(finding)
    both = torch.stack(lungs(p)).any(0)
    down, out = (place[mask].numpy() for place in places(both))
    (high, low), (inner, outer) = REGIONS[finding]
    assert mask.any((1, 2)).double().mean() > 0.9
    assert np.mean((down >= high) & (down <= low)) > 0.98
    assert np.mean((abs(out) >= inner) & (abs(out) <= outer)) > 0.97
    assert (mask & ~grown(both)).sum() <= 0.02 * mask.sum()


@pytest.mark.parametrize(("finding", "number", "both"), [(k, *v) for k, v in PLACED.items()])
def test_noise_decides_the_side_of_a_finding(finding, number, both):
    p = people(9, 12, **{finding: 1})
    # Three patients each with it on the right, the left, and between, where some have both.
    p = with_numbers(p, **{number: torch.tensor([0.02, 0.98, 0.505]).double().repeat(3)})
    change = (rendering.attenuation(p, 64) - rendering.attenuation(having(p, **{finding: 0}), 64))[
        :, 0
    ]
    more = change.clamp(min=0) if finding == ATELECTASIS else change.abs()
    right, left = ((more * lung).sum((1, 2)) for lung in lungs(p))
    share = (right / (right + left)).view(3, 3)
    assert (share[:, 0] > 0.7).all()
    assert (share[:, 1] < 0.3).all()
    if both:
        assert ((share[:, 2] > 0.1) & (share[:, 2] < 0.9)).all()
    else:
        assert ((share[:, 2] > 0.9) | (share[:, 2] < 0.1)).all()
    if finding != ATELECTASIS:  # which draws heart and trachea over
        assert (share[:, 0] > 0.98).all()
        assert (share[:, 1] < 0.02).all()


@pytest.mark.parametrize("both", [0.0, 0.15, 0.4])
@pytest.mark.parametrize("number", ["effusion side", "lesion side", "fracture side"])
def test_sides_have_the_given_frequencies(number, both):
    p = people(5000, 1)
    right, left = (p.on_side(number, side, both) for side in SIDES)
    assert ((right + left) >= 1).all()
    assert (right * left).mean().item() == pytest.approx(both, abs=0.025)
    assert right.mean().item() == pytest.approx((1 + both) / 2, abs=0.03)
    assert left.mean().item() == pytest.approx((1 + both) / 2, abs=0.03)


def test_devices_add_attenuation_in_every_view():
    n = 12
    p = people(n, 5, **{DEVICES: 1, "View": np.arange(n) % 3})
    change = rendering.attenuation(p, 64) - rendering.attenuation(having(p, **{DEVICES: 0}), 64)
    assert change.min() > -1e-4
    assert (change.amax((1, 2, 3)) > 0.5).all()


def test_fracture_displaces_bone():
    _, mask, _ = seen(FRACTURE)
    change = rendering.attenuation(people(16, 4, Fracture=1), 64)[:, 0] - healthy()[0]
    assert (change.amax((1, 2)) > 0.2).all()
    assert (change.amin((1, 2)) < -0.1).all()
    assert mask.flatten(1).double().mean(1).max() < 0.06


def test_atelectasis_condenses_the_base_and_shifts_the_heart():
    p = with_numbers(people(10, 6, **{ATELECTASIS: 1}), atelectasis_side=0.02)
    change = (rendering.attenuation(p, 64) - rendering.attenuation(having(p, Atelectasis=0), 64))[
        :, 0
    ]
    right, left = lungs(p)
    down, _ = places(right)
    gain = change.clamp(min=0) * right
    assert ((gain * down).sum((1, 2)) / gain.sum((1, 2)) > 0.5).all()
    # On the other side lung lies where heart and mediastinum were.
    assert ((change.clamp(max=0) * left).sum((1, 2)) < -1).all()


@pytest.mark.parametrize(
    "finding", [k for k in FINDINGS if k not in (FRACTURE, ATELECTASIS, "Pneumothorax")]
)
def test_dense_findings_are_brighter(finding):
    _, mask, image = seen(finding)
    gain = image - healthy()[1]
    assert gain[mask].mean() > 0.015
    assert (gain[mask] > 0).double().mean() > 0.9


# How much


def heart_and_ratio(p, size=256):
    """Return the widest shadow of the heart and, as a share, of heart over both lungs."""
    heart = shadow(p, first(build_body(p).lungs[0].displacers, 2), size)
    both = torch.stack(lungs(p, size)).any(0)
    widths = (each.any(1).sum(1).double().numpy() for each in (heart, both))
    heart, both = widths
    return heart, heart / both


def test_cardiothoracic_ratio_separates_cardiomegaly():
    p = people(120, 1)
    (_, normal), (_, large) = (heart_and_ratio(having(p, Cardiomegaly=k)) for k in (0, 1))
    assert stats.mannwhitneyu(large, normal).statistic / 120**2 >= 0.97
    assert normal.mean() < 0.5 < large.mean()  # where radiologists draw the line
    assert (normal < 0.5).mean() > 0.9
    assert (large > 0.5).mean() > 0.9


def test_heart_looks_larger_in_ap():
    p = people(60, 2)
    (pa, pa_share), (ap, ap_share) = (heart_and_ratio(having(p, View=view)) for view in (PA, AP))
    assert (ap > pa).mean() > 0.97
    assert (ap_share > pa_share).mean() > 0.9
    assert 0.005 < (ap_share - pa_share).mean() < 0.1


def test_more_fluid_rises_higher():
    p = people(6, 3, **{"Pleural Effusion": 1})
    dry = rendering.render(having(p, Pleural_Effusion=0), 64)[:, 0]
    strip = [lung & (places(lung)[0] > 0.2) for lung in lungs(p)]
    tops, bright = [], []
    for much in (0.2, 0.5, 0.8, 0.95):
        wet = with_numbers(p, effusion_side=0.5, effusion_right=much, effusion_left=much)
        gain = rendering.render(wet, 64)[:, 0] - dry
        rows = torch.stack([((gain > 0.05) & lung).any(2) for lung in strip])  # side, patient, row
        tops.append(torch.where(rows.any(2), rows.double().argmax(2), 64))
        bright.append(torch.stack([(gain * lung).sum((1, 2)) for lung in strip]))
    tops, bright = torch.stack(tops), torch.stack(bright)
    assert (tops.diff(dim=0) <= 0).all()
    assert (tops[-1] < tops[0] - 3).all()
    assert (bright.diff(dim=0) > 0).all()


def test_fluid_depth_correlates_with_height():
    p = with_numbers(people(40, 7, **{"Pleural Effusion": 1}), effusion_side=0.02)
    mask = rendering.masks(p, 64, "Pleural Effusion")[:, 0]
    right = lungs(p)[0]
    top = torch.where(mask, places(right)[0], 9.0).amin((1, 2))
    there = mask.any((1, 2))
    assert stats.spearmanr(p.u("effusion right")[there], top[there]).statistic < -0.6


def test_pneumothorax_darkens_apex_and_outer_wall():
    p = people(16, 5, Pneumothorax=1)
    (attenuation, image), (attenuation_before, before) = (
        traced(p),
        traced(having(p, Pneumothorax=0)),
    )
    change, gain = attenuation - attenuation_before, image - before
    down, _ = places(torch.stack(lungs(p)).any(0))
    falls = change < -rendering.VISIBLE
    assert gain[falls].mean() < -0.02
    assert (gain[falls] < 0).double().mean() > 0.98
    assert (falls.sum((1, 2)) > 20).all()
    for lung, side in zip(lungs(p), SIDES, strict=True):
        here = p.on_side("pneumothorax side", side, 0.0) > 0
        rim = lung & grown(~lung)  # where the lung no longer is
        _, out = places(lung)
        outer = rim & (down < 0.6) & (side * out > 0)
        assert (change[here][outer[here]] < 0).double().mean() > 0.9
        assert (gain[here][outer[here]] < 0.005).double().mean() > 0.95
        assert not change[~here][lung[~here]].any()
