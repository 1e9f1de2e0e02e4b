"""The phantom's images: each belongs to a record, shows every variable, and has true twins."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtri

from causalcxr import do
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Graph
from causalcxr.sources.phantom import rendering, truth
from causalcxr.sources.phantom.body import build_body, camera
from causalcxr.sources.phantom.organs import heart
from causalcxr.sources.phantom.patient import NUMBERS, Habitus, Patient
from causalcxr.sources.phantom.physics import line_integral
from causalcxr.sources.phantom.profiles import PROFILES, shutter
from causalcxr.sources.phantom.skeleton import bones
from causalcxr.sources.phantom.solids import Solids
from causalcxr.sources.phantom.tables import DATASETS, FINDINGS, PATHOLOGIES

CXR7 = Graph.load("cxr7")
HEALTHY = dict.fromkeys((name.replace(" ", "_") for name in FINDINGS), "N")


@pytest.fixture(scope="module")
def adults():
    """Return 40 adults, imaged PA, without findings."""
    cohort = Cohort.load("phantom", n=80, seed=11)
    return truth(cohort, do(view="PA", dataset="MIMIC-CXR", **HEALTHY)).select("Age > 25").head(40)


@pytest.fixture(scope="module")
def ten_adults(adults):
    """Return the first ten of the adults."""
    return adults.head(10)


@pytest.fixture(scope="module")
def ill():
    """Return 14 patients of all ages, views and data sets with about every second finding."""
    p = patient(Cohort.load("phantom", n=14, seed=3, enriched=1))
    cycles = {"View": 3, "Dataset": 7}
    return p.with_columns({name: torch.arange(14).double() % k for name, k in cycles.items()})


def patient(cohort):
    columns = cohort.images.columns.items()
    return Patient({k: torch.from_numpy(column) for k, column in columns}, cohort.images.draws)


def having(p, **values):
    """Return the same patients with other values."""
    every = {name: torch.as_tensor(value).double() for name, value in values.items()}
    return p.with_columns({name: value.expand(len(p.draws)) for name, value in every.items()})


def pixels_of(cohort):
    return cohort.images[:][:, 0]


def after(cohort, **values):
    return pixels_of(truth(cohort, do(**values)))


def shadows(p, solids, size=64):
    return line_integral([solids], camera(p), size)


def lungs(p):
    """Return the shadows of the right and left cavity, (2, B, 64, 64)."""
    regions = [lung.region for lung in build_body(p).lungs]
    one = [Solids(r.shape[:, :1], r.centre[:, :1], torch.ones_like(r.mu[:, :1])) for r in regions]
    return torch.stack([shadows(p, each) > 0 for each in one])


# An image belongs to its record


@pytest.mark.parametrize(("size", "n"), [(32, 66), (33, 6), (64, 8), (100, 6)])
def test_image_does_not_depend_on_the_batch(size, n):
    whole = Cohort.load("phantom", n=n, seed=1, size=size).images.grey_levels(np.arange(n))
    order = np.random.default_rng(0).permutation(n)
    shuffled = Cohort.load("phantom", n=n, seed=1, size=size).images.grey_levels(order)
    assert np.array_equal(shuffled, whole[order])
    fresh = Cohort.load("phantom", n=n, seed=1, size=size).images
    for row in range(0, n, n // 4):
        part = np.arange(row, min(n, row + 1 + row % 3))  # one, two or three
        assert np.array_equal(fresh.grey_levels(part), whole[part])


def test_findings_do_not_depend_on_the_batch(ill):
    whole = rendering.render(ill, 64)
    for rows in (np.array([5]), np.array([12, 2]), np.arange(14)[::-1].copy()):
        columns = {name: column[rows] for name, column in ill.columns.items()}
        assert torch.equal(
            rendering.render(Patient(columns, ill.draws.rows(rows)), 64), whole[rows]
        )


def test_seed_changes_patients_and_images():
    one, two = (Cohort.load("phantom", n=8, seed=seed) for seed in (0, 1))
    assert not one.table.equals(two.table)
    assert (one.images[:] != two.images[:]).mean() > 0.5


@pytest.mark.parametrize("size", [32, 33, 64, 100, 256, pytest.param(512, marks=pytest.mark.slow)])
def test_float32_agrees_with_float64_at_any_size(ill, size):
    rows = np.arange(6 if size <= 100 else 2)
    some = Patient({k: v[rows] for k, v in ill.columns.items()}, ill.draws.rows(rows))
    quick, fine = (rendering.render(some, size, dtype) for dtype in (torch.float32, torch.float64))
    assert quick.shape == (len(rows), 1, size, size)
    assert quick.dtype == fine.dtype == torch.float32
    assert (quick - fine).abs().max() < 1e-4
    assert quick.min() >= 0
    assert quick.max() <= 1
    assert quick.flatten(1).std(1).min() > 0.08
    assert (quick == 1).double().mean() < 0.3


def test_sizes_show_the_same_body(ill):
    rows = np.arange(6)
    some = Patient({k: v[rows] for k, v in ill.columns.items()}, ill.draws.rows(rows))
    fine, coarse = rendering.render(some, 128), rendering.render(some, 64)
    halved = torch.nn.functional.avg_pool2d(fine, 2)
    for one, other in zip(halved, coarse, strict=True):
        assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0.95


def test_rendered_images_are_cached():
    images = Cohort.load("phantom", n=8, seed=0, size=32).images
    before, chosen = images[:], images.select([4, 1])
    assert chosen._done.all()
    assert np.array_equal(chosen[:], before[[4, 1]])


# The exogenous numbers


def test_noise_is_independent_of_the_variables():
    cohort = Cohort.load("phantom", n=5000, seed=21)
    p, columns = patient(cohort), cohort.columns(CXR7)
    numbers = np.stack([p.u(name).numpy() for name in NUMBERS], 1)
    assert numbers.shape[1] >= 25
    values = np.stack([column for column in columns.values() if column.std() > 0], 1)
    every = np.corrcoef(np.concatenate([numbers, values], 1), rowvar=False)
    # Six standard deviations: once in a billion by chance, and there are 50,000 pairs.
    assert np.abs(every[: len(NUMBERS), len(NUMBERS) :]).max() < 6 / 5000**0.5
    between = every[: len(NUMBERS), : len(NUMBERS)]
    assert np.abs(between[np.triu_indices_from(between, 1)]).max() < 6 / 5000**0.5
    assert stats.kstest(numbers.ravel()[::7], "uniform").statistic < 0.01


def test_every_noise_number_changes_an_image():
    k = len(NUMBERS)
    silent = np.ones(k, dtype=bool)
    columns = dict.fromkeys(FINDINGS, 1) | {"Age": 60, "Race": 2}
    for record, (view, sex, dataset) in enumerate([(1, 0, 5), (2, 1, 3), (0, 0, 4), (1, 0, 1)]):
        at = columns | {"View": view, "Sex": sex, "Dataset": dataset}
        every = {name: torch.full((k + 1,), value).double() for name, value in at.items()}
        # One patient many times over, each time with another number changed; the last is itself.
        p = Patient(every, Draws(np.full(k + 1, 1234 + record, dtype=np.uint64)))
        uniform = torch.stack([p.u(name) for name in NUMBERS], 1)
        uniform[:, NUMBERS.index("collimation")] = 0.01  # shutters are in the field
        uniform[:, NUMBERS.index("marker")] = 0.45  # and letters
        uniform[torch.arange(k), torch.arange(k)] += 0.5
        uniform %= 1
        normal = torch.from_numpy(ndtri(uniform.numpy())).clamp(-3, 3)
        p.__dict__.update(_uniform=uniform, _normal=normal)
        rendered = rendering.render(p, 32)
        silent &= (rendered[:k] == rendered[k:]).flatten(1).all(1).numpy()
    assert [name for name, off in zip(NUMBERS, silent, strict=True) if off] == []


# What each variable shows


def test_lungs_overlap_in_a_lateral_view(adults):
    def overlap(view):
        right, left = lungs(having(patient(adults), View=view))
        return (right & left).sum((1, 2)) / (right | left).sum((1, 2))

    assert overlap(2).min() > 0.5
    assert overlap(1).max() < 0.2
    assert overlap(0).max() < 0.2


def test_sex_changes_breasts_and_size(ten_adults):
    adults = ten_adults
    women, men = (having(patient(adults), Sex=sex) for sex in (0, 1))
    gain = (rendering.attenuation(women, 64) - rendering.attenuation(men, 64))[:, 0]
    lower = lungs(women).any(0) & lungs(men).any(0) & (torch.arange(64)[:, None] > 28)
    assert ((gain * lower).amax((1, 2)) > 0.15).all()  # breasts lie over the lower lungs
    wide = [lungs(each).any(0).any(1).sum(1).double().mean() for each in (women, men)]
    assert wide[1] > wide[0] + 1
    seen = np.abs(after(adults, sex="F") - after(adults, sex="M"))
    assert seen.mean((1, 2)).min() > 0.005


def test_age_changes_bone_spine_and_aorta(adults):
    young, old = (having(patient(adults), Age=age) for age in (40, 88))

    def bone(p):
        return shadows(p, Solids.by_kind(bones(p, Habitus.from_patient(p)))[0])

    assert (bone(old).sum((1, 2)) < 0.95 * bone(young).sum((1, 2))).all()

    def aorta(p):
        balls = Solids.join(heart(p, Habitus.from_patient(p)))
        return (shadows(p, balls) > 0)[:, 8:26].sum((1, 2))

    assert (aorta(old) >= aorta(young)).double().mean() > 0.9
    assert aorta(old).double().mean() > 1.02 * aorta(young).double().mean()
    sideways = [lungs(having(p, View=2)).any(0).any(1).sum(1).double() for p in (young, old)]
    assert (sideways[1] > sideways[0]).all()  # a rounder back holds a deeper chest


def test_children_have_smaller_chest_and_field(adults):
    child, adult = (having(patient(adults), Age=age) for age in (1, 40))
    assert (camera(child).width < 0.8 * camera(adult).width).all()
    # The rows of a shape are one over the half-axes.
    inverse = [build_body(p).lungs[0].region.shape[:, 0].norm(dim=-1) for p in (child, adult)]
    assert (inverse[0] > 1.3 * inverse[1]).all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (k > 1)) for k, name in enumerate(DATASETS)][
        1:
    ],
)
def test_data_set_changes_display_and_not_the_body(ten_adults, name):
    assert tuple(PROFILES) == tuple(DATASETS)
    here = having(patient(ten_adults), Dataset=0)
    there = having(here, Dataset=list(DATASETS).index(name))
    one, other = build_body(here), build_body(there)
    for a, b in zip(one.solids, other.solids, strict=True):
        assert torch.equal(a.centre, b.centre)
        assert torch.equal(a.shape, b.shape)
        assert torch.equal(a.mu, b.mu)
    change = rendering.attenuation(here, 64)[:, 0] != rendering.attenuation(there, 64)[:, 0]
    side = torch.arange(64)
    corner = (side[:, None] < 22) & ((side < 14) | (side >= 50))
    assert not change[:, ~corner].any()  # letters of lead, in the upper corners
    a, b = rendering.render(here, 64)[:, 0], rendering.render(there, 64)[:, 0]
    assert (a - b).abs().mean() > 0.005
    free = ~corner & (shutter(here, 64) == 1) & (shutter(there, 64) == 1)
    for before, now, where in zip(a, b, free, strict=True):
        shown = where & (before > 0.05) & (before < 0.95) & (now > 0.05) & (now < 0.95)
        assert stats.spearmanr(before[shown], now[shown]).statistic > 0.98


def test_shutters_cover_only_the_edge(adults):
    p = having(patient(adults), Dataset=list(DATASETS).index("PadChest"))
    open_ = shutter(p, 64)
    closed = (open_ < 1).any((1, 2))
    assert 0.1 < closed.double().mean() < 0.7
    assert (open_[:, 10:54, 10:54] == 1).all()
    hidden = rendering.render(p, 64)[:, 0][open_ == 0]
    assert (hidden == PROFILES["PadChest"].shutter).all()


def test_race_changes_nothing_without_race_signal(ill):
    one, two = (rendering.render(having(ill, Race=race), 64, race_signal=0.0) for race in (0, 2))
    assert torch.equal(one, two)


def test_race_changes_grey_levels_monotonically(ill):
    asian, white = (rendering.render(having(ill, Race=race), 64).double() for race in (0, 2))
    assert (asian != white).flatten(1).any(1).all()
    open_ = (shutter(ill, 64) == 1)[:, None]
    for a, b, where in zip(asian, white, open_, strict=True):
        order = a[where].argsort()
        assert (b[where][order].diff() > -1e-6).all()  # a function of the grey level that rises
    assert torch.equal(
        rendering.attenuation(having(ill, Race=0), 32), rendering.attenuation(ill, 32)
    )


# True twins


@pytest.fixture(scope="module")
def eight():
    cohort = Cohort.load("phantom", n=8, seed=6, size=32)
    return cohort, cohort.images[:]


@pytest.mark.parametrize("name", [name for name in CXR7.variables if name != "Image"])
def test_null_intervention_returns_the_patient(eight, name):
    cohort, before = eight
    twins = truth(cohort, do({name: cohort.table[name]}))
    assert twins.table.equals(cohort.table)
    assert np.array_equal(twins.images[:], before)


def test_twin_keeps_pixels_away_from_the_finding():
    cohort = Cohort.load("phantom", n=20, seed=7)
    twins = truth(cohort, do(lung_lesion="P"))
    others = [name for name in cohort.table if name not in ("Lung Lesion", "No Finding")]
    assert twins.table[others].equals(cohort.table[others])
    differ = torch.from_numpy(pixels_of(twins) != pixels_of(cohort))
    one, other = (rendering.attenuation(patient(each), 64) for each in (cohort, twins))
    near = torch.nn.functional.max_pool2d((one != other).float(), 3, 1, 1)[:, 0] > 0
    assert near.double().mean() < 0.1
    assert not (differ & ~near).any()
    assert (cohort.table["Lung Lesion"] == "N").sum() > 15
    assert differ.any(2).any(1).sum() > 12


def test_only_records_that_change_get_another_image():
    cohort = Cohort.load("phantom", n=30, seed=7, size=32)
    twins = truth(cohort, do(pleural_effusion="P"))
    changed = (twins.images[:] != cohort.images[:]).any((1, 2, 3))
    same = (twins.table == cohort.table).all(axis=1).to_numpy()
    assert 0 < same.sum() < 30
    assert not changed[same].any()
    assert changed[~same].mean() > 0.9


def test_intervention_changes_descendants_only():
    cohort = Cohort.load("phantom", n=5000, seed=8)
    before = cohort.columns(CXR7)
    twin = truth(cohort, do(pleural_effusion="P")).columns(CXR7)
    assert (twin["Support Devices"] >= before["Support Devices"]).all()
    assert twin["Support Devices"].mean() > 2 * before["Support Devices"].mean()
    for name in ("Age", "Sex", "Race", "View", "Dataset", "Cardiomegaly", "Pneumothorax"):
        assert np.array_equal(twin[name], before[name])


def test_truth_of_a_truth_is_both_interventions():
    cohort = Cohort.load("phantom", n=8, seed=9, size=32)
    both = truth(cohort, do(view="PA", sex="M", cardiomegaly="P"))
    steps = truth(truth(truth(cohort, do(view="PA", sex="F")), do(cardiomegaly="P")), do(sex="M"))
    assert steps.table.equals(both.table)
    assert np.array_equal(steps.images[:], both.images[:])
    some = truth(truth(cohort, do(view="PA", cardiomegaly="P")).at([7, 3]), do(sex="M"))
    assert np.array_equal(some.images[:], both.images[[7, 3]])


def test_randomised_cohort_has_independent_views_and_findings():
    rich = Cohort.load("phantom", n=4000, seed=2, randomised=1)
    table = rich.table
    assert table["View"].value_counts(normalize=True).between(0.30, 0.37).all()
    # Cardiomegaly follows age in the population, and not here.
    present, age = table["Cardiomegaly"] == "P", table["Age"]
    assert 0.26 < present.mean() < 0.34
    assert abs(np.corrcoef(present, age)[0, 1]) < 0.06
    with pytest.raises(CohortError, match="enriched phantom"):
        truth(rich, do(sex="M"))
    with pytest.raises(CohortError, match="give one of the two"):
        Cohort.load("phantom", n=4, enriched=1, randomised=1)


def test_enriched_cohort_has_frequent_findings():
    plain, rich = (Cohort.load("phantom", n=4000, seed=2, enriched=k) for k in (0, 1))
    before, after_ = plain.columns(CXR7), rich.columns(CXR7)
    for name, (prevalence, _) in FINDINGS.items():
        assert after_[name].mean() == pytest.approx((prevalence + 0.5) / 2, abs=0.03)
    same = np.all([before[name] == after_[name] for name in before], axis=0)
    assert same.mean() == pytest.approx(0.5, abs=0.03)
    for name in ("Age", "Sex", "Race", "View", "Dataset"):
        assert np.array_equal(before[name], after_[name])
    none = ~np.any([after_[name] == 1 for name in PATHOLOGIES], axis=0)
    assert np.array_equal(after_["No Finding"], none.astype(float))
    some = np.flatnonzero(same)[:5]
    assert np.array_equal(rich.at(some).images[:], plain.at(some).images[:])
    with pytest.raises(CohortError, match="enriched phantom"):
        truth(rich, do(sex="M"))


def test_truth_requires_phantom_images():
    cohort = Cohort.load("phantom", n=2)
    with pytest.raises(CohortError, match="only phantoms know their noise"):
        truth(cohort.with_images(cohort.images.with_pixels(cohort.images[:])), do(sex="M"))


@pytest.mark.parametrize("options", [{"n": 0}, {"size": 31}, {"size": 513}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(CohortError, match="n must be at least 1 and size 32 to 512"):
        Cohort.load("phantom", **options)


def test_copies_share_variables_and_not_bodies():
    plain, copied = (Cohort.load("phantom", n=24, seed=5, copies=k) for k in (1, 8))
    before, after = plain.columns(CXR7), copied.columns(CXR7)
    assert all(np.array_equal(after[name], np.repeat(before[name][::8], 8)) for name in before)
    images = copied.images[:]
    assert np.array_equal(images[[0, 8, 16]], plain.images[[0, 8, 16]])
    assert np.abs(images[0] - images[1]).mean() > 0.01
    with pytest.raises(CohortError, match="enriched phantom"):
        truth(copied, do(sex="M"))
