"""Planted bias: samples and interventions show the effects that the equations have."""

import numpy as np
import pytest

from causalcxr import do
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.sources.phantom import World, planted_effects, truth
from causalcxr.sources.phantom.population import COLUMNS
from causalcxr.sources.phantom.tables import PATHOLOGIES

CXR7 = Graph.load("cxr7")
MANY = 50_000

PLANTED = [
    World(confounding=0.3, shortcut=0.4),
    World("cxr7-acquisition", confounding=0.25, shortcut=0.3, disease="Lung Lesion"),
]


@pytest.fixture(scope="module", params=PLANTED)
def planted(request):
    """Return a world, a large cohort of it, and the true effects."""
    world = request.param
    cohort = Cohort.load("phantom", n=2 * MANY, seed=12, size=32, world=world)
    return world, cohort, planted_effects(world)


def difference(chance, present):
    return chance[present].mean() - chance[~present].mean()


def test_sample_shows_the_observed_effects(planted):
    world, cohort, effects = planted
    columns = cohort.columns(CXR7)
    ill = columns["No Finding"] == 0
    effect = difference(columns["View"] == 0, ill)
    assert effect == pytest.approx(effects.loc["confounding", "observed"], abs=0.01)
    sick = columns[world.disease] == 1
    effect = difference(columns["Support Devices"], sick)
    assert effect == pytest.approx(effects.loc["shortcut", "observed"], abs=0.025)


def test_interventions_have_the_causal_effects(planted):
    world, cohort, effects = planted

    def chances(cause, child, position):
        for level in "NP":
            twin = truth(cohort, do({cause: level})).images.columns
            yield (twin[child] == position).mean()

    ill, well = chances("No Finding", "View", 0)
    assert ill - well == pytest.approx(world.confounding, abs=0.005)
    assert ill - well == pytest.approx(effects.loc["confounding", "causal"], abs=0.005)
    without, with_ = chances(world.disease, "Support Devices", 1)
    assert with_ - without == pytest.approx(effects.loc["shortcut", "causal"], abs=0.005)


def test_planted_effects_equal_the_options_and_keep_marginals(planted):
    world, cohort, effects = planted
    sizes = effects["planted"]
    assert sizes["confounding"] == pytest.approx(world.confounding, abs=0.002)
    assert sizes["shortcut"] == pytest.approx(world.shortcut, abs=0.002)
    columns, usual = (
        cohort.columns(CXR7),
        Cohort.load("phantom", n=MANY, seed=3, graph=world.graph).columns(CXR7),
    )
    assert columns["Support Devices"].mean() == pytest.approx(
        usual["Support Devices"].mean(), rel=0.04
    )
    for k in range(3):
        assert (columns["View"] == k).mean() == pytest.approx(
            (usual["View"] == k).mean(), rel=0.03
        )


def test_default_world_plants_nothing():
    effects = planted_effects(World())
    assert effects["planted"].tolist() == [0, 0, 0]
    assert effects.loc["shortcut", "causal"] > 0.3  # drains follow a pneumothorax
    assert abs(effects.loc["confounding", "observed"]) < 0.01


def test_underdiagnosis_changes_labels_of_the_group_only():
    group = {"sex": "F", "Race": "Black"}
    world = World(underdiagnosis=0.4, group=group)
    cohort = Cohort.load("phantom", n=MANY, seed=1, size=32, world=world)
    labels, true = cohort.columns(CXR7), cohort.images.columns
    member = (true["Sex"] == 0) & (true["Race"] == 1)
    for name in PATHOLOGIES:
        assert np.array_equal(labels[name][~member], true[name][~member])
        assert (labels[name] <= true[name]).all()
    ill = np.concatenate([labels[n][member & (true[n] == 1)] for n in PATHOLOGIES])
    assert 1 - ill.mean() == pytest.approx(0.4, abs=0.02)
    assert planted_effects(world).loc["underdiagnosis", "planted"] == 0.4
    assert np.array_equal(labels["Support Devices"], true["Support Devices"])
    assert (labels["No Finding"] >= true["No Finding"]).all()
    assert labels["No Finding"].mean() > true["No Finding"].mean() + 0.003
    plain = Cohort.load("phantom", n=MANY, seed=1, size=32)
    assert all(np.array_equal(true[n], plain.images.columns[n]) for n in COLUMNS)


def test_twin_is_labelled_as_its_own_group():
    cohort = Cohort.load("phantom", n=5000, seed=1, underdiagnosis=50)
    men = truth(cohort, do(sex="M"))
    columns, true = men.columns(CXR7), men.images.columns
    assert all(np.array_equal(columns[name], true[name]) for name in COLUMNS)


def test_impossible_effect_names_the_maximum():
    with pytest.raises(CohortError, match=r"confounding=0.99 is too large .* at most 0\.\d+"):
        planted_effects(World(confounding=0.99))
    with pytest.raises(CohortError, match=r"shortcut=0.9 is too large .* at most 0\.\d+"):
        Cohort.load("phantom", n=2, shortcut=90)
