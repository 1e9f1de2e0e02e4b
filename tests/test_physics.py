"""X-ray line integrals against closed forms and brute force, in float64."""

import math

import pytest
import torch

from causalcxr.cohort import Cohort
from causalcxr.sources.phantom.body import Patient, build_thorax, camera
from causalcxr.sources.phantom.physics import (
    Beam,
    Solids,
    aerated_length,
    chords,
    line_integral,
    pixel_grid,
)

F64 = torch.float64
SOURCE, FILM, SIDE = 100.0, 150.0, 15.0  # source to origin, source to detector, half side


def beam(n=1, source=SOURCE, film=FILM, side=SIDE):
    frame = torch.diag(torch.tensor([1.0, 1.0, film], dtype=F64)).expand(n, 3, 3)
    place = torch.tensor([0.0, 0.0, -source], dtype=F64).expand(n, 3)
    return Beam(place, frame, torch.full((n,), side, dtype=F64))


def solid(centre=(0, 0, 0), radii=(1, 1, 1), mu=1.0):
    shape = torch.diag(1 / torch.tensor(radii, dtype=F64))[None, None]
    place = torch.tensor(centre, dtype=F64)[None, None]
    return Solids(shape, place, torch.tensor([[mu]], dtype=F64))


def through(*points):
    """Return the grid of the rays that pass through points of the plane z = 0."""
    scale = FILM / SOURCE / SIDE
    return torch.tensor([[x * scale, y * scale, 1.0] for x, y in points], dtype=F64).T


def rotated(seed, n):
    """Return n random ellipsoids a patient of one patient, turned in space."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator, dtype=F64)).Q
    radii = 1 + 4 * torch.rand(n, 3, generator=generator, dtype=F64)
    centre = 4 * torch.randn(n, 3, generator=generator, dtype=F64)
    return Solids((turn / radii[..., None])[None], centre[None], torch.ones(1, n, dtype=F64))


def inside(solids, points):
    """Return which points (P, K, 3) are in each solid, (S, P, K)."""
    away = points - solids.centre[0][:, None, None]
    return torch.einsum("sij,spkj->spki", solids.shape[0], away).norm(dim=-1) <= 1


def sampled(grid, steps):
    """Return points along rays, (P, K, 3), their half-depths and the length of a step, (P,)."""
    d = torch.stack([grid[0] * SIDE, grid[1] * SIDE, grid[2] * FILM], -1)
    t = (torch.arange(steps, dtype=F64) + 0.5) / steps
    origin = torch.tensor([0.0, 0.0, -SOURCE], dtype=F64)
    return origin + t[:, None] * d[:, None], d.norm(dim=-1) / steps


@pytest.mark.parametrize("radius", [0.1, 1.0, 7.5])
def test_given_a_sphere_on_the_axis_then_the_chord_is_its_diameter(radius):
    found = chords(solid(radii=(radius,) * 3), beam(), through((0, 0)))
    assert found.item() == pytest.approx(2 * radius, abs=1e-5)


@pytest.mark.parametrize("miss", [0.5, 1.7, 2.9, 3.2])
def test_given_a_ray_off_the_axis_then_the_chord_is_pythagoras(miss):
    found = chords(solid(radii=(3, 3, 3)), beam(), through((miss, 0)))
    distance = miss * SOURCE / math.hypot(SOURCE, miss)  # of the ray from the centre
    assert found.item() == pytest.approx(2 * math.sqrt(max(0, 9 - distance**2)), abs=1e-5)


def test_given_a_sphere_then_its_shadow_is_magnified_by_the_cone():
    radius, size = 4.0, 4000
    p = (torch.arange(size, dtype=F64) + 0.5) * (2 / size) - 1
    row = torch.stack([p, 0 * p, 0 * p + 1])
    lit = chords(solid(radii=(radius,) * 3), beam(), row)[0, 0] > 0
    edge = p[lit].max().item() * SIDE
    # The ray that touches the sphere makes an angle with sine r / D: the shadow is a little
    # larger than r times the magnification.
    expected = FILM * radius / math.sqrt(SOURCE**2 - radius**2)
    assert edge == pytest.approx(expected, abs=SIDE / size)
    assert expected > radius * FILM / SOURCE


def test_given_a_flat_and_wide_solid_then_it_is_a_sheet_of_water():
    sheet = solid(radii=(1e4, 1e4, 5), mu=0.19)
    total = line_integral(sheet, beam(), through((0, 0), (3, 0), (0, -6)))
    slant = torch.tensor([1.0, math.hypot(SOURCE, 3), math.hypot(SOURCE, 6)], dtype=F64)
    slant[1:] /= SOURCE
    assert torch.allclose(total[0], 0.19 * 10 * slant, atol=1e-5)


def test_given_a_tall_ellipsoid_then_it_is_a_cylinder():
    tall = solid(radii=(6, 1e5, 6))
    for x in (0.0, 2.0, 5.0):
        distance = x * SOURCE / math.hypot(SOURCE, x)
        expected = 2 * math.sqrt(36 - distance**2)
        assert chords(tall, beam(), through((x, 0))).item() == pytest.approx(expected, abs=1e-5)


def test_given_two_solids_then_their_line_integrals_add():
    one, two = solid((1, 0, 0), (2, 3, 4), 0.2), solid((-1, 1, 3), (3, 1, 2), -0.1)
    grid = pixel_grid(24)
    both = line_integral(Solids.join([one, two]), beam(), grid)
    apart = line_integral(one, beam(), grid) + line_integral(two, beam(), grid)
    assert (both - apart).abs().max() < 1e-12
    assert both.abs().max() > 0.1


def test_given_a_body_scaled_with_its_distances_then_the_chords_scale():
    grid, solids = pixel_grid(16), rotated(2, 5)
    small = chords(solids, beam(), grid)
    large = chords(
        solids.scaled(torch.tensor([1.5], dtype=F64)),
        beam(source=1.5 * SOURCE, film=1.5 * FILM, side=1.5 * SIDE),
        grid,
    )
    assert (large - 1.5 * small).abs().max() < 1e-9


def test_given_turned_ellipsoids_then_chords_are_what_sampling_along_the_rays_finds():
    grid, solids = pixel_grid(12), rotated(0, 6)
    points, step = sampled(grid, 6000)
    brute = inside(solids, points).sum(-1) * step
    assert (chords(solids, beam(), grid)[0] - brute).abs().max() <= 2 * step.max()


@pytest.mark.parametrize("seed", range(4))
def test_given_overlapping_cutters_then_the_air_is_what_sampling_finds(seed):
    grid = pixel_grid(16)
    lung, cutters = solid(radii=(6, 9, 7)), rotated(seed, 5)
    points, step = sampled(grid, 6000)
    free = inside(lung, points)[0] & ~inside(cutters, points).any(0)
    found = aerated_length(lung, cutters, beam(), grid)[0]
    # An interval's end is off by a step at most, and there are up to six intervals.
    assert (found - free.sum(-1) * step).abs().max() <= 6 * step.max()
    assert (found - free.sum(-1) * step).abs().mean() < step.max()
    assert 1 < found.max() < 14


def test_given_a_cutter_that_holds_the_lung_then_no_air_is_left():
    lung, cutter = solid(radii=(3, 3, 3)), solid(radii=(4, 5, 6))
    assert (aerated_length(lung, cutter, beam(), pixel_grid(16)) == 0).all()


def test_given_a_cutter_beside_the_lung_then_all_air_is_left():
    lung, cutter = solid((-4, 0, 0), (3, 3, 3)), solid((4, 0, 0), (3, 3, 3))
    grid = pixel_grid(16)
    found = aerated_length(lung, cutter, beam(), grid)
    assert (found - chords(lung, beam(), grid)[:, 0]).abs().max() < 1e-10


def test_given_whole_films_then_float32_is_float64_to_a_ten_thousandth():
    films = Cohort.load("phantom", n=24, seed=3).images
    columns = {name: torch.from_numpy(c) for name, c in films.columns.items()}
    patient = Patient(columns, films.draws)
    thorax, view = build_thorax(patient), camera(patient)
    solids = thorax.solids.thickened(torch.full((24,), 0.25, dtype=F64))
    exact = line_integral(solids, view, pixel_grid(64))
    quick = line_integral(solids, view, pixel_grid(64, torch.float32))
    off = (quick - exact).abs() / exact.max()
    assert exact.max() > 5
    assert off.mean() < 1e-6
    assert off.flatten().kthvalue(int(0.9999 * off.numel())).values < 1e-4
    assert off.max() < 5e-4  # a ray that grazes metal: the root of a rounded nought


PIXEL = 2 * SIDE / 64 * SOURCE / FILM  # where the patient stands, in cm


def rod(tilt, shift=0.0):
    """Return a rod a millimetre thick, and its mass."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    turn = torch.tensor([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=F64)
    radii = torch.tensor([0.05, 6.0, 0.05], dtype=F64)
    centre = torch.tensor([shift, 0, 0], dtype=F64)[None, None]
    solids = Solids((turn / radii[:, None])[None, None], centre, 2 * solid().mu)
    return solids, 4 / 3 * math.pi * 0.05 * 6 * 0.05 * 2


def mass(solids, size):
    """Return the integral over the detector, referred to the plane of the origin."""
    cell = (2 * SIDE * SOURCE / FILM / size) ** 2
    return (line_integral(solids, beam(), pixel_grid(size)).sum() * cell).item()


@pytest.mark.parametrize("tilt", [0.1, 0.3, 0.785, 1.4])
def test_given_a_thin_rod_when_it_is_thickened_then_its_mass_stays(tilt):
    thin, expected = rod(tilt)
    wide = thin.thickened(torch.tensor([1.1 * PIXEL / 2], dtype=F64))
    assert mass(thin, 1600) == pytest.approx(expected, rel=0.03)
    assert mass(wide, 1600) == pytest.approx(expected, rel=0.01)
    assert mass(wide, 64) == pytest.approx(expected, rel=0.05)


def test_given_a_thin_rod_along_the_pixels_then_its_mass_stays_on_average_over_places():
    # In the worst place, between two columns, half of it is lost; not thickened, all of it.
    masses, bare = [], []
    for k in range(16):
        thin, expected = rod(0.0, shift=k / 16 * PIXEL)
        wide = thin.thickened(torch.tensor([1.1 * PIXEL / 2], dtype=F64))
        masses.append(mass(wide, 64) / expected)
        bare.append(mass(thin, 64) / expected)
    assert sum(masses) / 16 == pytest.approx(1, abs=0.03)
    assert min(masses) > 0.45
    assert min(bare) == 0


def test_given_thick_solids_when_they_are_thickened_then_nothing_changes():
    solids = rotated(1, 4)
    same = solids.thickened(torch.tensor([0.5], dtype=F64))
    assert torch.equal(same.shape, solids.shape)
    assert torch.equal(same.mu, solids.mu)
