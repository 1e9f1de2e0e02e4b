"""The phantom: films that belong to a record, marginals, what each variable shows, true twins."""

import numpy as np
import pytest
import torch
from scipy import stats

from causalcxr import do
from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.sources.phantom import PhantomImages, truth
from causalcxr.sources.phantom.body import Patient, build_thorax, camera
from causalcxr.sources.phantom.physics import Solids, chords, pixel_grid
from causalcxr.sources.phantom.population import DATASETS, FINDINGS

GRAPH = Graph.load("cxr7")
PATHOLOGIES = [name for name in FINDINGS if name != "Support Devices"]


@pytest.fixture(scope="module")
def table():
    return Cohort.load("phantom", n=20_000, seed=0).columns(GRAPH)


@pytest.fixture(scope="module")
def adults():
    """Return 60 adults, filmed PA, with neither a large heart, fluid nor devices."""
    cohort = Cohort.load("phantom", n=300, seed=11)
    plain = do(view="PA", cardiomegaly="N", pleural_effusion="N", support_devices="N")
    return truth(cohort, plain).select("Age > 25").head(60)


def films(cohort):
    return cohort.images[:][:, 0]


def after(cohort, **values):
    return films(truth(cohort, do(**values)))


def auroc(low, high):
    """Return the probability that a number of `high` is above one of `low`."""
    return stats.mannwhitneyu(high, low).statistic / (len(low) * len(high))


def beside_heart(images):
    """Return how much more opaque the lung is left of a normal heart than its mirror image."""
    return (images[:, 34:44, 44:48] - images[:, 34:44, 16:20]).mean((1, 2))


def heart_and_ratio(cohort):
    """Return the widths of the shadows of heart and, as a share, of heart over both lungs."""
    films = cohort.images
    columns = {name: torch.from_numpy(column) for name, column in films.columns.items()}
    patient = Patient(columns, films.draws)
    thorax, view, grid = build_thorax(patient), camera(patient), pixel_grid(128)

    def width(solids):
        shadow = (chords(solids, view, grid) > 0).any(1).view(-1, 128, 128)
        return shadow.any(1).sum(1).numpy()

    every = thorax.cutters[0]
    heart = Solids(every.shape[:, :1], every.centre[:, :1], every.mu[:, :1])
    return width(heart), width(heart) / width(Solids.join(list(thorax.lungs)))


def test_given_a_record_alone_in_company_or_in_any_order_then_its_film_is_the_same():
    for size, n in ((64, 130), (32, 24), (128, 20)):
        whole = Cohort.load("phantom", n=n, seed=1, size=size).images.grey_levels(np.arange(n))
        order = np.random.default_rng(0).permutation(n)
        shuffled = Cohort.load("phantom", n=n, seed=1, size=size).images.grey_levels(order)
        assert np.array_equal(shuffled, whole[order])
        fresh = Cohort.load("phantom", n=n, seed=1, size=size).images
        for row in range(0, n, 4):
            part = np.arange(row, min(n, row + 1 + row % 3))  # one, two or three
            assert np.array_equal(fresh.grey_levels(part), whole[part])
        few = Cohort.load("phantom", n=n, seed=1, size=size).images.grey_levels(np.arange(7))
        assert np.array_equal(few, whole[:7])


def test_given_the_first_k_of_n_then_they_are_the_smaller_cohort():
    small, large = (Cohort.load("phantom", n=n, seed=4) for n in (9, 40))
    assert large.head(9).table.equals(small.table)
    assert np.array_equal(large.head(9).images[:], small.images[:])


def test_given_another_seed_then_other_patients_and_other_films():
    one, two = (Cohort.load("phantom", n=8, seed=seed) for seed in (0, 1))
    assert not one.table.equals(two.table)
    assert (one.images[:] != two.images[:]).mean() > 0.5


@pytest.mark.parametrize("name", FINDINGS)
def test_given_20000_patients_then_a_finding_has_its_prevalence(table, name):
    assert table[name].mean() == pytest.approx(FINDINGS[name][0], rel=0.1)


def test_given_20000_patients_then_demographics_have_their_shares(table):
    assert table["Sex"].mean() == pytest.approx(0.53, abs=0.02)
    assert np.bincount(table["Race"].astype(int)) / 20_000 == pytest.approx(
        [0.08, 0.15, 0.77], rel=0.1
    )
    shares = np.array(list(DATASETS.values()))
    found = np.bincount(table["Dataset"].astype(int)) / 20_000
    assert found == pytest.approx(shares / shares.sum(), rel=0.15)
    assert np.median(table["Age"]) == pytest.approx(60, abs=1)
    assert 0.02 < (table["Age"] < 5).mean() < 0.035
    assert (table["Age"] == np.floor(table["Age"])).all()


def test_given_a_parent_then_its_child_is_more_frequent(table):
    big = table["Cardiomegaly"] == 1
    fluid = table["Pleural Effusion"]
    assert fluid[big].mean() > 2 * fluid[~big].mean()


def test_given_no_finding_then_none_of_the_twelve_is_there(table):
    none = ~np.any([table[name] == 1 for name in PATHOLOGIES], axis=0)
    assert len(PATHOLOGIES) == 12
    assert np.array_equal(table["No Finding"], none.astype(float))
    assert (table["Support Devices"][none] == 1).any()


def test_given_any_film_then_it_lies_between_0_and_1_and_is_not_flat():
    images = films(Cohort.load("phantom", n=64, seed=2))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std((1, 2)).min() > 0.1
    assert (images == 1).mean() < 0.1


def test_given_a_phantom_when_it_is_asked_for_twice_then_it_is_computed_once(monkeypatch):
    images = Cohort.load("phantom", n=8, seed=0).images
    first = images[:]
    monkeypatch.setattr(PhantomImages, "_film", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(images[2:5], first[2:5])
    assert np.array_equal(images.select([4, 1])[:], first[[4, 1]])


@pytest.mark.parametrize("options", [{"n": 0}, {"size": 31}, {"size": 513}])
def test_given_nonsense_then_it_is_refused_by_name(options):
    with pytest.raises(CohortError, match="n must be at least 1 and size 32 to 512"):
        Cohort.load("phantom", **options)


# What each variable shows


def test_given_cardiomegaly_then_the_heart_takes_more_of_the_thorax(adults):
    (_, normal), (_, large) = (
        heart_and_ratio(truth(adults, do(cardiomegaly=level))) for level in "NP"
    )
    assert normal.mean() == pytest.approx(0.466, abs=0.02)  # radiologists draw the line at .5
    assert large.mean() == pytest.approx(0.617, abs=0.03)
    assert auroc(normal, large) >= 0.99


def test_given_cardiomegaly_then_a_single_patch_of_the_film_tells(adults):
    small, large = after(adults, cardiomegaly="N"), after(adults, cardiomegaly="P")
    assert (beside_heart(large) > beside_heart(small)).all()
    assert auroc(beside_heart(small), beside_heart(large)) >= 0.97


def test_given_a_film_from_the_front_then_the_same_heart_looks_larger(adults):
    (pa, pa_share), (ap, ap_share) = (
        heart_and_ratio(truth(adults, do(view=view))) for view in ("PA", "AP")
    )
    assert (ap > pa).all()
    assert (ap_share > pa_share).all()
    assert (ap_share - pa_share).mean() == pytest.approx(0.021, abs=0.01)
    seen = beside_heart(after(adults, view="AP")) > beside_heart(after(adults, view="PA"))
    assert seen.mean() > 0.8


def test_given_an_effusion_then_the_angles_above_the_diaphragm_are_brighter(adults):
    dry, wet = after(adults, pleural_effusion="N"), after(adults, pleural_effusion="P")
    gain = (wet - dry)[:, 36:56]
    sides = np.stack([gain[:, :, 6:22].mean((1, 2)), gain[:, :, 42:58].mean((1, 2))])
    assert (sides.max(0) > 0.02).all()
    assert sides.min() > -0.01
    one_sided = (sides < 1e-3).any(0).mean()
    assert 0.6 < one_sided < 0.9  # 76 % are on one side alone


def test_given_devices_then_bright_pixels_are_added_and_none_is_taken(adults):
    without, with_ = after(adults, support_devices="N"), after(adults, support_devices="P")
    gain = with_ - without
    assert (gain.max((1, 2)) > 0.05).all()
    assert gain.min() > -0.03  # the scatter falls a little where metal is


def test_given_the_other_sex_then_breasts_and_size_change(adults):
    women, men = after(adults, sex="F"), after(adults, sex="M")
    breast = np.abs(women - men)[:, 36:50]
    assert (breast.max((1, 2)) > 0.05).all()
    assert np.abs(women - men).mean((1, 2)).min() > 0.005


def test_given_a_wider_mediastinum_then_the_middle_above_the_heart_is_brighter(adults):
    narrow, wide = (after(adults, enlarged_cardiomediastinum=level) for level in "NP")
    assert ((wide - narrow)[:, 14:30, 22:42].mean((1, 2)) > 0).all()


def test_given_another_data_set_then_only_the_exposure_changes(adults):
    one, two = (after(adults, dataset=name) for name in ("MIMIC-CXR", "BRAX"))
    assert np.abs(one - two).mean() > 0.01
    for a, b in zip(one, two, strict=True):
        seen = (a > 0.05) & (a < 0.95) & (b > 0.05) & (b < 0.95)  # neither black nor white
        assert stats.spearmanr(a[seen], b[seen]).statistic > 0.999


# True twins


@pytest.mark.parametrize("name", ["Sex", "Age", "View", "Cardiomegaly", "Pleural Effusion"])
def test_given_what_was_observed_then_the_twin_is_the_patient_to_the_last_bit(name):
    cohort = Cohort.load("phantom", n=24, seed=6)
    twins = truth(cohort, do({name: cohort.table[name]}))
    assert twins.table.equals(cohort.table)
    assert np.array_equal(twins.images[:], cohort.images[:])


def test_given_race_then_no_image_changes_beyond_what_its_children_show():
    cohort = Cohort.load("phantom", n=200, seed=6)
    twins = truth(cohort, do(race="Asian"))
    seen = ["Cardiomegaly", "Pleural Effusion", "Support Devices", "Enlarged Cardiomediastinum"]
    same = (twins.table[seen] == cohort.table[seen]).all(axis=1).to_numpy()
    moved = (twins.table["Race"] != cohort.table["Race"]).to_numpy()
    assert moved.sum() > 150
    assert (same & moved).sum() > 150
    assert np.array_equal(twins.select(same).images[:], cohort.select(same).images[:])


def test_given_an_intervention_then_only_records_whose_variables_change_have_another_image():
    cohort = Cohort.load("phantom", n=120, seed=7)
    twins = truth(cohort, do(pleural_effusion="P"))
    changed = (twins.images[:] != cohort.images[:]).any((1, 2, 3))
    had = (cohort.table["Pleural Effusion"] == "P").to_numpy()
    assert 0 < had.sum() < 120
    assert np.array_equal(changed, ~had)


def test_given_a_cause_then_its_effects_move_monotonically_and_causes_do_not():
    cohort = Cohort.load("phantom", n=5000, seed=8)
    before = cohort.columns(GRAPH)
    twin = truth(cohort, do(pleural_effusion="P")).columns(GRAPH)
    assert (twin["Support Devices"] >= before["Support Devices"]).all()
    assert twin["Support Devices"].mean() > 2 * before["Support Devices"].mean()
    for name in ("Age", "Sex", "Race", "View", "Dataset", "Cardiomegaly", "Pneumothorax"):
        assert np.array_equal(twin[name], before[name])


def test_given_the_truth_of_a_truth_then_both_interventions_hold():
    cohort = Cohort.load("phantom", n=40, seed=9)
    both = truth(cohort, do(view="PA", sex="M", cardiomegaly="P"))
    steps = truth(truth(truth(cohort, do(view="PA", sex="F")), do(cardiomegaly="P")), do(sex="M"))
    assert steps.table.equals(both.table)
    assert np.array_equal(steps.images[:], both.images[:])
    some = truth(truth(cohort, do(view="PA", cardiomegaly="P")).select([7, 3]), do(sex="M"))
    assert np.array_equal(some.images[:], both.images[[7, 3]])


def test_given_an_enriched_cohort_then_findings_are_frequent_and_half_of_it_is_as_drawn():
    plain, rich = (Cohort.load("phantom", n=4000, seed=2, enriched=k) for k in (0, 1))
    before, after_ = plain.columns(GRAPH), rich.columns(GRAPH)
    for name, (prevalence, _) in FINDINGS.items():
        assert after_[name].mean() == pytest.approx((prevalence + 0.5) / 2, abs=0.03)
    same = np.all([before[name] == after_[name] for name in before], axis=0)
    assert same.mean() == pytest.approx(0.5, abs=0.03)
    for name in ("Age", "Sex", "Race", "View", "Dataset"):
        assert np.array_equal(before[name], after_[name])
    none = ~np.any([after_[name] == 1 for name in PATHOLOGIES], axis=0)
    assert np.array_equal(after_["No Finding"], none.astype(float))
    few = np.flatnonzero(same)[:5]
    assert np.array_equal(rich.select(few).images[:], plain.select(few).images[:])
    with pytest.raises(CohortError, match="enriched phantom"):
        truth(rich, do(sex="M"))


def test_given_images_of_another_kind_then_the_truth_is_refused():
    cohort = Cohort.load("phantom", n=2)
    with pytest.raises(CohortError, match="only phantoms know their noise"):
        truth(cohort.with_images(cohort.images[:]), do(sex="M"))
