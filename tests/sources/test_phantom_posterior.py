"""True twins by draws of the posterior given the table: closed forms, identities, refusals."""

import numpy as np
import pytest

from causalcxr import do
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.sources.phantom import exogenous, truth
from causalcxr.sources.phantom.population import population
from causalcxr.sources.phantom.tables import GRAPHS

CXR7 = Graph.load("cxr7")


@pytest.fixture(scope="module", params=GRAPHS)
def observed(request):
    return Cohort.load("phantom", n=1000, seed=9, size=32, graph=request.param)


def test_null_intervention_returns_the_patient_in_every_draw(observed):
    twins = truth(observed, do(sex=observed.table["Sex"]), draws=5)
    assert twins.index.names == ["record", "draw"]
    assert len(twins) == 5 * len(observed)
    assert not twins.has_images
    assert twins.table.equals(observed.with_images(None).repeat(5).table)


def test_set_finding_has_the_closed_form_effect(observed):
    equations = population(observed.images.world)
    before = observed.columns(CXR7)
    after = before | {"Pleural Effusion": np.ones(len(observed))}
    p, p_cf = (
        equations.distributions["Atelectasis"].probability.given(each) for each in (before, after)
    )
    x, draws = before["Atelectasis"], 100
    expected = np.where(x == 1, 1.0, np.maximum(0, p_cf - p) / (1 - p))
    twins = truth(observed, do(pleural_effusion="P"), draws=draws, seed=1)
    result = twins.columns(CXR7)["Atelectasis"].reshape(-1, draws).mean(1)
    moved = before["Pleural Effusion"] == 0
    assert np.array_equal(result[~moved], x[~moved])
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(result - expected) <= 5 * error + 1e-12).all()
    assert result.mean() == pytest.approx(expected.mean(), abs=0.001)


def test_removed_finding_has_the_closed_form_effect(observed):
    equations, before = population(observed.images.world), observed.columns(CXR7)
    after = before | {"Pneumonia": np.zeros(len(observed))}
    p, p_cf = (
        equations.distributions["Consolidation"].probability.given(each)
        for each in (before, after)
    )
    rows = (before["Consolidation"] == 1) & (before["Pneumonia"] == 1)
    assert rows.sum() >= 3
    twins = truth(observed.select(rows), do(pneumonia="N"), draws=2000)
    result = twins.columns(CXR7)["Consolidation"].mean()
    assert result == pytest.approx((p_cf / p)[rows].mean(), abs=0.03)


def test_view_changes_by_the_overlap_of_cells():
    cohort = Cohort.load("phantom", n=600, seed=2, size=32, graph="cxr7-acquisition")
    before = cohort.columns(CXR7)
    law = population(cohort.images.world).distributions["View"]
    after = before | {"Support Devices": np.ones(600)}
    draws = 200
    twins = truth(cohort, do(support_devices="P"), draws=draws)
    result = twins.columns(CXR7)["View"].reshape(-1, draws)
    low, high = law.cell(before["View"], before)
    moved = before["Support Devices"] == 0
    for view in range(3):  # AP, PA, LATERAL
        a, b = law.cell(np.full(600, view), after)
        share = np.maximum(0, np.minimum(high, b) - np.maximum(low, a)) / (high - low)
        error = np.sqrt(share * (1 - share) / draws)
        assert (np.abs((result == view).mean(1) - share) <= 5 * error + 1e-6).all()
    assert (result[moved] <= before["View"][moved, None]).all()  # towards AP alone
    assert (result[moved] < before["View"][moved, None]).any()


def test_posterior_is_calibrated_on_true_twins(observed):
    action = do(cardiomegaly="P")
    true = truth(observed, action).columns(CXR7)["Pleural Effusion"]
    many = truth(observed, action, draws=50).columns(CXR7)["Pleural Effusion"]
    chance = many.reshape(-1, 50).mean(1)
    error = np.sqrt((chance * (1 - chance)).sum()) / len(true)
    assert abs(true.mean() - chance.mean()) < 4 * error + 0.002


def test_draws_do_not_depend_on_the_batch(observed):
    action = do(age=80, sex="M")
    all_ = truth(observed, action, draws=3, seed=5).table
    alone = truth(observed.at([17]), action, draws=3, seed=5).table
    assert alone.equals(all_.loc[[17]])
    other = truth(observed, action, draws=3, seed=6).table
    assert not other.equals(all_)


def test_posterior_of_twins_keeps_set_values(observed):
    # A lateral view is impossible in VinDr-CXR, but here it was set.
    twins = truth(observed, do(view="LATERAL", dataset="VinDr-CXR"))
    again = truth(twins, do(sex="M"), draws=2)
    assert (again.table["View"] == "LATERAL").all()
    assert (again.table["Dataset"] == "VinDr-CXR").all()


def test_posterior_refuses_impossible_tables(observed):
    gaps = Cohort.load("phantom", n=50, size=32, missing=1)
    with pytest.raises(CohortError, match=r"record 2 has no Race \(1 records\)"):
        truth(gaps.at([2]), do(sex="M"), draws=2)
    wrong = Cohort.load("phantom", n=5, size=32, underdiagnosis=10)
    with pytest.raises(CohortError, match="those of this world are wrong"):
        truth(wrong, do(sex="M"), draws=2)
    columns = observed.columns(CXR7) | {"View": np.full(len(observed), 2.0)}
    with pytest.raises(CohortError, match="View 'LATERAL' is impossible given its parents"):
        truth(observed.with_columns(CXR7, columns), do(sex="M"), draws=2)
    with pytest.raises(CohortError, match="cannot repeat 0 times"):
        truth(observed, do(sex="M"), draws=0)


def test_twins_have_the_noise_of_their_patients(observed):
    numbers = exogenous(observed)
    assert numbers.index.equals(observed.index)
    assert exogenous(truth(observed, do(sex="M", edema="P"))).equals(numbers)
    assert exogenous(observed.at([3])).equals(numbers.iloc[[3]])
    assert numbers.mean().abs().max() < 0.15
    assert numbers.std().between(0.9, 1.1).all()
    correlated = np.abs(np.corrcoef(numbers.T) - np.eye(numbers.shape[1]))
    assert correlated.max() < 0.15
    with pytest.raises(CohortError, match="only phantoms know their noise"):
        exogenous(observed.with_images(None))
