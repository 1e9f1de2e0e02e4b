"""The phantom's population: marginals, equations, values that are missing, options."""

import numpy as np
import pandas as pd
import pytest

from causalcxr import Shift, do
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph import Graph
from causalcxr.sources.phantom import PhantomImages, World, truth
from causalcxr.sources.phantom.population import (
    COLUMNS,
    Population,
    population,
    sample_noise,
    weights,
)
from causalcxr.sources.phantom.tables import (
    COUNTS,
    DATASETS,
    FINDINGS,
    GRAPHS,
    N_RECORDS,
    NEGATIVES,
    NO_FINDING,
    PATHOLOGIES,
    POSITIVES,
)

CXR7 = Graph.load("cxr7")
MANY = 100_000


def columns_of(n=MANY, seed=3, **options):
    return Cohort.load("phantom", n=n, seed=seed, **options).columns(CXR7)


@pytest.fixture(scope="module", params=GRAPHS)
def complete(request):
    return columns_of(graph=request.param)


@pytest.fixture(scope="module", params=GRAPHS)
def gappy(request):
    """Return what is recorded, and what is true."""
    cohort = Cohort.load("phantom", n=2 * MANY, seed=3, graph=request.param, missing=1)
    return cohort.columns(CXR7), cohort.images.columns


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


# Marginals and equations


@pytest.mark.parametrize("name", COUNTS)
def test_levels_have_the_published_frequencies(complete, name):
    counts = np.array(list(COUNTS[name].values()))
    result = np.bincount(complete[name].astype(int), minlength=len(counts)) / MANY
    assert result == pytest.approx(counts / counts.sum(), rel=0.1)


def test_findings_have_the_published_prevalence(complete):
    result = {name: complete[name].mean() for name in FINDINGS}
    assert result == pytest.approx({n: POSITIVES[n] / N_RECORDS for n in FINDINGS}, rel=0.1)


def test_ages_have_the_published_quantiles(complete):
    age = complete["Age"]
    assert (age == np.floor(age)).all()
    assert age.min() == 0
    assert 89 < age.max() <= 105
    assert (age < 5).mean() == pytest.approx(32_000 / N_RECORDS, rel=0.1)
    fives = np.convolve(np.bincount(age.astype(int)), np.ones(5), mode="valid")
    assert abs(int(fives.argmax()) - 63) <= 1


def test_no_finding_excludes_all_pathologies(complete):
    none = ~np.any([complete[name] == 1 for name in PATHOLOGIES], axis=0)
    assert len(PATHOLOGIES) == 12
    assert np.array_equal(complete["No Finding"], none.astype(float))
    # Derived, so not solved for: findings come together, more records than published have none.
    assert 0.54 < none.mean() < 0.58
    assert (complete["Support Devices"][none] == 1).any()


@pytest.mark.parametrize("name", GRAPHS)
def test_weights_have_the_parents_of_the_graph(name):
    graph = Graph.load(name)
    for child, of in weights(name).items():
        expected = set(graph.parents(child)) - ({"Dataset"} if child == "View" else set())
        assert set(of) == expected, child


@pytest.mark.parametrize("name", GRAPHS)
def test_equations_read_only_their_parents(name):
    graph, distributions = Graph.load(name), population(World(name)).distributions
    columns = columns_of(400, graph=name)
    noise = sample_noise(Draws(record_keys(pd.RangeIndex(400)), 3))
    assert set(distributions) == set(graph.tabular)
    for child in set(distributions) - {"Age", "No Finding"}:
        own = distributions[child]
        # As they are and set the other way round, so that each is seen to matter or not.
        read = [
            other
            for other in graph.tabular
            if other != child
            and not np.array_equal(
                np.broadcast_arrays(*own.edges(columns), columns["Age"])[0],
                np.broadcast_arrays(
                    *own.edges(columns | {other: other_way(columns[other])}), columns["Age"]
                )[0],
            )
        ]
        assert sorted(read) == sorted(graph.parents(child)), child
        assert np.array_equal(own.predict(noise[child], columns), columns[child])


def other_way(column):
    return column.max() - column


def test_smaller_cohort_is_the_beginning_of_a_larger_one():
    options = {"seed": 4, "graph": "cxr7-acquisition", "missing": 1, "underdiagnosis": 30}
    small, large = (Cohort.load("phantom", n=n, **options) for n in (9, 40))
    one, two = large.head(9).columns(CXR7), small.columns(CXR7)
    assert all(same(one[name], two[name]) for name in COLUMNS)
    assert any(np.isnan(one[name]).any() for name in COLUMNS)


# Values that are missing


@pytest.mark.parametrize("name", ["Race", "Sex", "View"])
def test_missing_values_have_the_published_counts(gappy, name):
    recorded, _ = gappy
    counts = np.array(list(COUNTS[name].values()))
    column = recorded[name]
    unknown = 1 - counts.sum() / N_RECORDS
    assert np.isnan(column).mean() == pytest.approx(unknown, rel=0.1)
    result = [(column == k).mean() for k in range(len(counts))]
    assert result == pytest.approx(counts / N_RECORDS, rel=0.1)


@pytest.mark.parametrize("name", FINDINGS)
def test_recorded_findings_have_the_published_counts(gappy, name):
    recorded, _ = gappy
    for level, counts in ((1, POSITIVES), (0, NEGATIVES)):
        share = counts[name] / N_RECORDS
        error = np.sqrt(share / (2 * MANY))
        result = (recorded[name] == level).mean()
        # Some negatives are so rare that the sampling error is larger than a tenth.
        assert result == pytest.approx(share, rel=0.1, abs=3 * error)


def test_no_finding_is_recorded_as_published(gappy):
    recorded, _ = gappy
    assert (recorded["No Finding"] == 1).mean() == pytest.approx(NO_FINDING / N_RECORDS, rel=0.02)
    denied = np.any([recorded[name] == 1 for name in PATHOLOGIES], axis=0)
    assert (recorded["No Finding"][denied] == 0).all()
    assert (recorded["No Finding"][~denied] != 0).all()


def test_recorded_values_are_true_and_depend_on_the_data_set(gappy):
    recorded, true = gappy
    for name in COLUMNS:
        known = ~np.isnan(recorded[name])
        assert known.any()
        assert np.array_equal(recorded[name][known], true[name][known])
    dataset = recorded["Dataset"]
    have = {level: k for k, level in enumerate(DATASETS)}
    races = set(np.unique(dataset[~np.isnan(recorded["Race"])]))
    assert races == {have["MIMIC-CXR"], have["CheXpert-Plus"]}
    nih = dataset == have["ChestX-ray14"]
    for name in ("Fracture", "Support Devices", "Enlarged Cardiomediastinum"):
        assert np.isnan(recorded[name][nih]).all()
        assert (true[name][nih] == 1).any()
    assert not (true["View"][nih] == 2).any()
    assert not (recorded["Pneumothorax"][nih] == 0).any()  # positives alone
    kept = ~np.isnan(recorded["Sex"][dataset == have["VinDr-CXR"]])
    assert 0.2 < kept.mean() < 0.3


def test_missing_values_do_not_change_images():
    whole, gaps = (Cohort.load("phantom", n=12, size=32, missing=k) for k in (0, 1))
    assert gaps.table["Race"].isna().any()
    assert np.array_equal(whole.images[:], gaps.images[:])


@pytest.fixture(scope="module")
def written():
    return Cohort.load("phantom", n=3000, seed=6, missing=1, underdiagnosis=30)


def test_null_intervention_keeps_the_record(written):
    assert truth(written, do({})).table.equals(written.table)
    some = written.at([7, 3, 500])
    assert truth(some, do({})).table.equals(some.table)


def test_twin_is_recorded_as_in_its_data_set(written):
    nih = truth(written, do(dataset="ChestX-ray14")).table
    assert nih["Race"].isna().all()
    assert nih["Fracture"].isna().all()
    back = truth(truth(written, do(dataset="ChestX-ray14")), do(dataset="MIMIC-CXR")).table
    assert back["Race"].notna().mean() == pytest.approx(0.78, abs=0.03)


def test_set_values_are_recorded_and_shifted_gaps_stay(written):
    gap = written.table["Age"].isna().to_numpy()
    assert 0 < gap.sum() < 100
    older = truth(written, do(age=Shift(1), beyond_range=True))
    assert older.table["Age"].isna().to_numpy().tolist() == gap.tolist()
    assert truth(older, do(sex="M")).table["Age"].isna().to_numpy().tolist() == gap.tolist()
    assert (truth(older, do(age=60)).table["Age"] == 60).all()
    twins = truth(written, do(race="Asian", edema="P"))
    assert (twins.table["Race"] == "Asian").all()
    assert (twins.table["Edema"] == "P").all()  # of women, too, whose edema is overlooked
    assert (twins.table["No Finding"] == "N").all()


def test_new_findings_of_a_twin_are_recorded():
    cohort = Cohort.load("phantom", n=20_000, seed=8, missing=1)
    twins = truth(cohort, do(pleural_effusion="P"))
    before, after = cohort.images.columns, twins.images.columns
    came = (after["Atelectasis"] == 1) & (before["Atelectasis"] == 0)
    assert came.sum() > 1000
    assert (twins.table["Atelectasis"][came] == "P").all()
    stayed = after["Atelectasis"] == before["Atelectasis"]
    one, two = (each.table["Atelectasis"][stayed] for each in (cohort, twins))
    assert one.equals(two)


# Options and images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "cxr8"}, "graph cannot be 'cxr8'; did you mean 'cxr7'?"),
        ({"missing": 2}, "missing=2; give 1 for yes or 0 for no"),
        ({"enriched": -1}, "enriched=-1; give 1 for yes or 0 for no"),
        ({"copies": 0}, "copies=0; give a whole number of at least 1"),
        ({"race_signal": 7}, "race_signal=7; give 1 for yes or 0 for no"),
        ({"bits": 16}, "bits=16; allowed: 8, 12"),
        ({"confounding": 101}, "confounding=101; give per cent, 0 to 100"),
        ({"underdiagnosis": "x"}, "underdiagnosis='x'; give per cent, 0 to 100"),
        ({"world": World(shortcut=0.1), "missing": 1}, "world= and world: missing=True; give one"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CohortError, match=r"^[^\n]*$") as caught:
        Cohort.load("phantom", n=2, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"graph": ["cxr7"]}, "graph cannot be"),
        ({"confounding": 1.5}, "confounding=1.5; give a number from 0 to 1"),
        ({"shortcut": float("nan")}, "shortcut=nan"),
        ({"disease": "pneumothoraks"}, "did you mean 'Pneumothorax'?"),
        ({"disease": "Support Devices"}, "disease cannot be 'Support Devices'"),
        ({"group": {}}, "give variables and a level for each"),
        ({"group": {"Sex": "female"}}, "group 'Sex' cannot be 'female'"),
        ({"group": {"Gender": "F"}}, "group cannot be 'Gender'"),
    ],
)
def test_invalid_worlds_are_refused(fields, message):
    with pytest.raises(CohortError, match=r"^[^\n]*$") as caught:
        World(**fields)
    assert message in str(caught.value)


def test_command_line_refuses_an_invalid_option(tmp_path, capsys):
    words = ["cohort", "save", "phantom:n=3,size=32,shortcut=150", "--out", str(tmp_path / "x")]
    assert guarded(app, words) == 2
    assert "shortcut=150" in capsys.readouterr().err


def test_notes_name_the_world():
    assert Cohort.load("phantom", n=2).notes == []
    notes = Cohort.load("phantom", n=2, graph="cxr7-acquisition", shortcut=20).notes
    assert notes == ["world: graph='cxr7-acquisition', shortcut=0.2"]


def test_12_bits_agree_with_8_bits():
    fine, coarse = (Cohort.load("phantom", n=4, size=32, bits=bits).images for bits in (12, 8))
    levels = fine.grey_levels(np.arange(4))
    assert levels.dtype == np.uint16
    assert 255 < levels.max() <= 4095
    assert np.array_equal(fine[:][:, 0], levels.astype(np.float32) / np.float32(4095))
    assert np.abs(fine[:] - coarse[:]).max() <= 0.5 / 255 + 0.5 / 4095 + 1e-6
    twin = truth(Cohort.load("phantom", n=4, size=32, bits=12), do(sex="M")).images
    assert twin.select([2]).grey_levels(np.arange(1)).dtype == np.uint16


def test_large_cohorts_are_not_cached():
    cohort = Cohort.load("phantom", n=9000, size=256)
    assert cohort.images._cache is None
    assert np.array_equal(cohort.images[5], cohort.at([5]).images[0])


def test_mask_of_an_unknown_finding_is_refused():
    images = Cohort.load("phantom", n=2, size=32).images
    assert isinstance(images, PhantomImages)
    with pytest.raises(CohortError, match=r"no finding 'edma'; did you mean 'Edema'\?"):
        images.masks("edma")


def test_equations_are_solved_once_for_each_world():
    assert population(World()) is population(World(missing=True, race_signal=0.0))
    assert isinstance(population(World("cxr7-acquisition")), Population)


def test_race_signal_controls_the_effect_on_images():
    silent, loud = (
        Cohort.load("phantom", n=30, seed=5, size=32, race_signal=signal) for signal in (0, 1)
    )
    for cohort, seen in ((silent, False), (loud, True)):
        before, twins = (truth(cohort, do(race=race)) for race in ("Asian", "White"))
        alike = before.table.drop(columns="Race") == twins.table.drop(columns="Race")
        rows = alike.all(axis=1).to_numpy()
        changed = (before.images[rows] != twins.images[rows]).any()
        assert rows.sum() > 20
        assert changed == seen


def test_masks_follow_the_rows():
    cohort = Cohort.load("phantom", n=8, seed=3, size=32)
    images = truth(cohort, do(cardiomegaly="P")).images
    masks = images.masks("cardiomegaly")
    assert masks.shape == (8, 1, 32, 32)
    assert masks.dtype == bool
    assert masks.any((1, 2, 3)).all()
    assert not masks.all((1, 2, 3)).any()
    assert np.array_equal(images.masks("Cardiomegaly", [5, 2]), masks[[5, 2]])
    assert np.array_equal(images.select([5, 2]).masks("Cardiomegaly"), masks[[5, 2]])
