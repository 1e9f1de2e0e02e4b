"""X-ray line integrals against closed forms and against sampling along the rays, in float64."""

import math
from dataclasses import replace

import pytest
import torch

from causalcxr.sources.phantom.physics import line_integral
from causalcxr.sources.phantom.shapes import ball, box, path, tube
from causalcxr.sources.phantom.solids import Beam, Lung, Solids

F64 = torch.float64
SOURCE, FILM, SIDE = 100.0, 150.0, 15.0  # source to origin, source to detector, half side
MIDDLE = 33  # an odd number of pixels: one ray is the axis


def beam(source=SOURCE, film=FILM, side=SIDE):
    frame = torch.diag(torch.tensor([1.0, 1.0, film], dtype=F64))[None]
    place = torch.tensor([[0.0, 0.0, -source]], dtype=F64)
    return Beam(place, frame, torch.tensor([side], dtype=F64))


def aslant(seed):
    """Return a beam that is turned, off its axis and not square to anything."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=F64)).Q
    lift = torch.randn(3, generator=generator, dtype=F64)
    scale = torch.tensor([1.0, 1.0, FILM], dtype=F64)
    return Beam((lift - SOURCE * turn[:, 2])[None], (turn * scale)[None], beam().width)


def exact(solids, view=None, size=MIDDLE, lungs=()):
    solids = [solids] if isinstance(solids, Solids) else solids
    return line_integral(solids, view or beam(), size, lungs, F64)[0]


def directions(view, size):
    """Return the vector from the source to each pixel, (size, size, 3), in cm."""
    centre = (torch.arange(size, dtype=F64) + 0.5) * (2 / size) - 1
    up, across = torch.meshgrid(-centre, centre, indexing="ij")
    width = view.width[0]
    return torch.stack([across * width, up * width, torch.ones_like(up)], -1) @ view.frame[0].mT


def distance(point, view, size):
    """Return how far each ray passes from a point, (size, size)."""
    d = directions(view, size)
    away = torch.tensor(point, dtype=F64) - view.source[0]
    return torch.linalg.cross(d, away.expand_as(d)).norm(dim=-1) / d.norm(dim=-1)


def turned(seed, n, kind):
    """Return n solids of one kind of one patient, turned in space."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator, dtype=F64)).Q
    radii = 1 + 4 * torch.rand(n, 3, generator=generator, dtype=F64)
    centre = 4 * torch.randn(n, 3, generator=generator, dtype=F64)
    mu = 0.1 + torch.rand(1, n, generator=generator, dtype=F64)
    return Solids((turn / radii[..., None])[None], centre[None], mu, kind)


def halved(solids):
    """Return the same solids, of which one half is cut away, each on another side."""
    side = solids.shape[..., :1, :] + solids.shape[..., 2:3, :]
    return replace(solids, shape=torch.cat([solids.shape, side], -2))


def inside(solids, points):
    """Return which points (P, 3) are in which solids, (P, S)."""
    y = torch.einsum("sij,psj->psi", solids.shape[0], points[:, None] - solids.centre[0])
    k = solids.rounded
    flat, cut = (y[..., k:3].abs() <= 1).all(-1), (y[..., 3:] >= 0).all(-1)
    return (y[..., :k].norm(dim=-1) <= 1) & flat & cut


def density(solids, lungs, points):
    """Return what attenuates at points, (P,), by the words of the docstrings alone."""
    total = torch.zeros(len(points), dtype=F64)
    for group in solids:
        total += inside(group, points).double() @ group.mu[0]
    for lung in lungs:
        cut = inside(lung.displacers, points) & (lung.displacers.mu[0] != 0)
        air = (inside(lung.region, points).all(-1) & ~cut.any(-1)).double()
        fill = sum(inside(group, points).double() @ group.mu[0] for group in lung.contents)
        total += air * (fill - lung.region.mu[0, 0])
    return total


def sampled(solids, lungs, view, size, steps=4000):
    """Follow the rays in small steps and close in on each jump of the density by halving."""
    d, source = directions(view, size).flatten(0, 1), view.source[0]
    t = torch.linspace(0.4, 1.0, steps, dtype=F64)

    def at(ray, t):
        return density(solids, lungs, source + t[:, None] * d[ray])

    ray = torch.arange(len(d)).repeat_interleave(steps)
    f = at(ray, t.repeat(len(d))).view(-1, steps)
    whole = ((f[:, 1:] + f[:, :-1]) / 2 * t.diff()).sum(1)
    ray, k = torch.nonzero(f[:, 1:] != f[:, :-1], as_tuple=True)
    before, after, low, high = f[ray, k], f[ray, k + 1], t[k], t[k + 1]
    for _ in range(36):
        middle = (low + high) / 2
        early = at(ray, middle) == before
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    right = before * (low - t[k]) + after * (t[k + 1] - low)
    whole.index_add_(0, ray, right - (before + after) / 2 * (t[k + 1] - t[k]))
    return (whole * d.norm(dim=-1)).view(size, size)


def agrees(solids, lungs, view, size=13):
    """Assert 1e-5 on all rays, but for the few whose stretch lies between two samples."""
    result, brute = exact(solids, view, size, lungs), sampled(solids, lungs, view, size)
    off = (result - brute).abs()
    assert (off > 1e-5).double().mean() <= 0.03
    assert off.max() < 0.05  # two steps of .02 cm of what attenuates about 1 per cm
    assert brute.abs().max() > 0.5
    assert (brute == 0).any()


# Closed forms


@pytest.mark.parametrize("radius", [0.3, 1.0, 7.5])
def test_sphere_on_the_axis_has_the_closed_form(radius):
    result = exact(ball((0, 0, 0), (radius,) * 3))
    assert result[16, 16].item() == pytest.approx(2 * radius, abs=1e-9)
    away = distance((0, 0, 0), beam(), MIDDLE)
    assert (result - 2 * (radius**2 - away**2).clamp(min=0).sqrt()).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_sphere_anywhere_has_the_closed_form(seed):
    place = (3.0 * seed - 4, 1.0, 5.0 - seed)
    result = exact(ball(place, (2.5,) * 3), aslant(seed), 100)
    away = distance(place, aslant(seed), 100)
    assert (result - 2 * (2.5**2 - away**2).clamp(min=0).sqrt()).abs().max() < 1e-5
    assert result.max() == pytest.approx(5, abs=0.01)


def test_shadow_is_magnified_by_the_cone():
    radius, size = 4.0, 1001
    row = exact(ball((0, 0, 0), (radius,) * 3), size=size)[size // 2] > 0
    edge = row.sum().item() / size * SIDE
    # The ray that touches the sphere makes an angle with sine r / D: the shadow is a little
    # larger than r times the magnification.
    expected = FILM * radius / math.sqrt(SOURCE**2 - radius**2)
    assert edge == pytest.approx(expected, abs=2 * SIDE / size)


def test_slab_has_the_closed_form():
    result = exact(box((0, 0, 0), (30, 30, 5), 0.19))
    d = directions(beam(), MIDDLE)
    assert (result - 0.19 * 10 * d.norm(dim=-1) / FILM).abs().max() < 1e-5
    sheet = exact(ball((0, 0, 0), (1e4, 1e4, 5), 0.19))  # so wide that it is flat
    assert (result - sheet).abs().max() < 1e-4


def test_box_shadow_is_its_near_face():
    result = exact(box((0, 0, 0), (4, 6, 5)), size=101)
    scale = FILM / (SOURCE - 5) / SIDE * 101
    assert (result > 0).any(0).sum().item() == pytest.approx(4 * scale, abs=1)
    assert (result > 0).any(1).sum().item() == pytest.approx(6 * scale, abs=1)


def test_tube_across_the_beam_has_the_closed_form():
    result = exact(tube(path((0, -60, 0), (0, 60, 0)), 6.0, 0.5))
    d = directions(beam(), MIDDLE)
    flat = d[..., [0, 2]].norm(dim=-1)  # of the ray, seen along the tube
    away = SOURCE * d[..., 0].abs() / flat
    chord = 2 * (36 - away**2).clamp(min=0).sqrt() * d.norm(dim=-1) / flat
    assert (result - 0.5 * chord).abs().max() < 1e-5
    tall = exact(ball((0, 0, 0), (6, 1e5, 6), 0.5))  # so tall that it is a cylinder
    assert (result - tall).abs().max() < 1e-4


def test_tube_along_the_beam_adds_its_pieces():
    # A thousandth off the axis: the pieces of the ray are longer by a millionth.
    line = path((-0.004, 0, -4), (0.001, 0, 1), (0.007, 0, 7))
    assert exact(tube(line, 0.8, 0.3))[16, 16].item() == pytest.approx(0.3 * 11, abs=1e-4)
    by_piece = exact(tube(line, 0.8, torch.tensor([[0.3, 0.0]], dtype=F64)))
    assert by_piece[16, 16].item() == pytest.approx(0.3 * 5, abs=1e-4)


def test_flat_tube_has_the_given_radii():
    # Along x: the first radius points upwards, the other one lies along the beam.
    result = exact(tube(path((-50, 0, 0), (50, 0, 0)), 3.0, 1.0, 0.4), size=301)
    assert result[150, 150].item() == pytest.approx(2 * 3.0 * 0.4, abs=1e-9)
    high = (result[:, 150] > 0).sum().item() / 301 * 2 * SIDE * SOURCE / FILM
    assert high == pytest.approx(6, abs=0.15)


def test_line_integrals_add():
    one, two = ball((1, 0, 0), (2, 3, 4), 0.2), ball((-1, 1, 3), (3, 1, 2), -0.1)
    other = box((2, 2, 2), (1, 2, 1), 0.4)
    both = exact(Solids.by_kind([one, other, two]))
    apart = exact(one) + exact(two) + exact(other)
    assert (both - apart).abs().max() < 1e-12
    assert both.abs().max() > 0.1


@pytest.mark.parametrize("kind", [3, 2, 0])
def test_chords_scale_with_the_body(kind):
    solids = turned(2, 5, kind)
    large = solids.scaled(torch.tensor([1.5], dtype=F64))
    view = beam(1.5 * SOURCE, 1.5 * FILM, 1.5 * SIDE)
    assert (exact(large, view) - 1.5 * exact(solids)).abs().max() < 1e-9


# Sampling along the rays


@pytest.mark.parametrize("kind", [3, 2, 0], ids=["balls", "tubes", "boxes"])
@pytest.mark.parametrize("seed", range(2))
def test_turned_solids_agree_with_sampling(kind, seed):
    agrees([turned(seed, 5, kind)], [], aslant(seed))


@pytest.mark.parametrize("kind", [3, 2, 0], ids=["balls", "tubes", "boxes"])
def test_halved_solids_agree_with_sampling(kind):
    solids = turned(3, 5, kind)
    agrees([halved(solids)], [], aslant(1))
    whole, half = exact(solids, aslant(1)), exact(halved(solids), aslant(1))
    assert (half <= whole + 1e-9).all()
    assert 0.4 < half.sum() / whole.sum() < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_lungs_agree_with_sampling(seed):
    region = Solids.join([ball((0, 0, 0), (6, 8, 7), 0.3, 0.2), ball((2, 1, 0), (7, 6, 8))])
    cut = turned(seed, 5, 3)
    cut = replace(cut, mu=cut.mu * torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0]], dtype=F64))
    contents = tuple(turned(seed + 10 * kind, 4, kind) for kind in (3, 2, 0))
    agrees([turned(seed, 2, 0)], [Lung(region, cut, contents)], aslant(seed))


def test_contents_count_only_within_air():
    none = ball((0, 0, 0), (1, 1, 1), 0.0)
    rod = box((0, 0, 0), (1, 1, 30), 0.5)
    lung = Lung(ball((0, 0, 0), (4, 4, 4), 0.2), none, (rod,))
    assert exact([], lungs=[lung])[16, 16].item() == pytest.approx(8 * (0.5 - 0.2), abs=1e-9)
    held = replace(lung, displacers=ball((0, 0, 2), (1, 1, 1)))
    assert exact([], lungs=[held])[16, 16].item() == pytest.approx(6 * (0.5 - 0.2), abs=1e-9)


def test_absent_displacers_leave_the_air():
    region = ball((-4, 0, 0), (3, 3, 3), 1.0)
    beside = Lung(region, ball((4, 0, 0), (3, 3, 3)))
    absent = Lung(region, ball((-4, 0, 0), (2, 2, 2), 0.0))
    for lung in (beside, absent):
        assert (exact([], lungs=[lung]) + exact(region)).abs().max() < 1e-10


def test_displaced_lung_has_no_air():
    region, far = ball((-4, 0, 0), (3, 3, 3), 1.0), ball((4, 0, 0), (3, 3, 3))
    held = Lung(region, ball((-4, 0, 0), (4, 5, 6)))
    empty = Lung(Solids.join([region, far]), ball((0, 0, 0), (1, 1, 1), 0.0))
    for lung in (held, empty):
        assert (exact([], lungs=[lung]) == 0).all()


# Digits


def crowd(n):
    """Return n patients, each of three kinds of solid and a lung, in beams of their own."""
    views = [aslant(seed) for seed in range(n)]
    view = Beam(*(torch.cat([getattr(v, f) for v in views]) for f in ("source", "frame", "width")))

    def together(kind, count, first):
        each = [turned(first + seed, count, kind) for seed in range(n)]
        columns = (torch.cat([getattr(s, f) for s in each]) for f in ("shape", "centre", "mu"))
        return Solids(*columns, kind)

    lung = Lung(together(3, 2, 100), together(3, 4, 200), (together(3, 3, 300), together(2, 3, 0)))
    return tuple(together(kind, 3, 400) for kind in (3, 2, 0)), view, [lung]


@pytest.mark.parametrize("size", [32, 100, 129])
def test_float32_agrees_with_float64(size):
    solids, view, lungs = crowd(6)
    fine = line_integral(solids, view, size, lungs, F64)
    off = (line_integral(solids, view, size, lungs) - fine).abs() / fine.max()
    assert fine.max() > 5
    assert off.mean() < 1e-6
    # A ray that grazes an edge has the root of a rounded nought.
    assert off.flatten().kthvalue(int(0.9995 * off.numel())).values < 1e-4


def test_solid_changes_no_other_pixel():
    solids, view, lungs = crowd(4)
    one = ball((1, 2, 0), (1.5, 1.0, 2.0), torch.full((4,), 0.7, dtype=F64))
    more = Solids.join([solids[0], one])
    before = line_integral(solids, view, 64, lungs)
    after = line_integral([more, *solids[1:]], view, 64, lungs)
    covered = line_integral([one], view, 64) > 0
    assert torch.equal(before[~covered], after[~covered])
    assert (before[covered] != after[covered]).double().mean() > 0.95


# Solids thinner than a pixel

PIXEL = 2 * SIDE / 64 * SOURCE / FILM  # where the patient stands, in cm
HALF = torch.tensor([1.1 * PIXEL / 2], dtype=F64)


def rod(kind, tilt, shift=0.0):
    """Return a rod a millimetre thick, 12 cm long, and its mass."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    if kind == "ball":
        volume = 4 / 3 * math.pi * 0.05 * 6 * 0.05
        return ball((shift, 0, 0), (0.05, 6.0, 0.05), 2.0, tilt), 2 * volume
    ends = ((shift + 6 * sin, -6 * cos, 0), (shift, 0, 0), (shift - 6 * sin, 6 * cos, 0))
    return tube(path(*ends), 0.05, 2.0), 2 * math.pi * 0.05**2 * 12


def mass(solids, size):
    """Return the integral over the detector, referred to the plane of the origin."""
    return (exact(solids, size=size).sum() * (2 * SIDE * SOURCE / FILM / size) ** 2).item()


@pytest.mark.parametrize("kind", ["ball", "tube"])
@pytest.mark.parametrize("tilt", [0.1, 0.5, 1.4])
def test_thickened_rod_keeps_its_mass(kind, tilt):
    thin, expected = rod(kind, tilt)
    wide = thin.thickened(HALF)
    assert mass(thin, 1200) == pytest.approx(expected, rel=0.03)
    assert mass(wide, 400) == pytest.approx(expected, rel=0.02)
    assert mass(wide, 64) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["ball", "tube"])
def test_thickened_rod_along_pixels_keeps_its_mean_mass(kind):
    # In the worst place, between two columns, half of it is lost; not thickened, all of it.
    masses, bare = [], []
    for k in range(16):
        thin, expected = rod(kind, 0.0, shift=k / 16 * PIXEL)
        masses.append(mass(thin.thickened(HALF), 64) / expected)
        bare.append(mass(thin, 64) / expected)
    assert sum(masses) / 16 == pytest.approx(1, abs=0.03)
    assert min(masses) > 0.45
    assert min(bare) == 0


@pytest.mark.parametrize("kind", [3, 2, 0])
def test_thick_solids_are_not_thickened(kind):
    solids = turned(1, 4, kind)
    same = solids.thickened(torch.tensor([0.5], dtype=F64))
    assert torch.equal(same.shape, solids.shape)
    assert torch.equal(same.mu, solids.mu)
