"""Checks of equations: right ones pass, wrong ones fail with the reason."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import expit

from causalcxr import SCM, Cohort, Graph, Variable
from causalcxr.common.errors import ModelError
from causalcxr.mechanisms.discrete import MonotoneEquation
from causalcxr.scm.questions import goodness_of_fit as goodness
from causalcxr.scm.questions.checks import check

N = 6000
GRAPH = Graph(
    [
        Variable("Age", "continuous", range=(0, 105), resolution=1, mechanism="empirical"),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("View", "categorical", levels=("AP", "PA", "LATERAL"), parents=("Age",)),
        Variable("Edema", "binary", parents=("Age", "Sex")),
        Variable(
            "Weight",
            "continuous",
            unit="kg",
            parents=("Age", "Sex"),
            mechanism={"kind": "flow", "bins": 4, "epochs": 3},
        ),
        Variable(
            "Healthy",
            "binary",
            parents=("Edema",),
            mechanism={"kind": "derived", "rule": "none_of"},
        ),
    ]
)


def population(n: int = N, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    age, sex = random.integers(20, 90, n), random.random(n) < 0.5
    p = expit((age - 60) / 12 + np.where(sex, 0.8, -0.8))
    edema = random.random(n) < p
    first = expit((age - 55) / 10)
    view = np.where(random.random(n) < first, 0, np.where(random.random(n) < 0.7, 1, 2))
    weight = 60 + 12 * sex + 0.1 * age + random.normal(0, 5, n)
    return pd.DataFrame(
        {
            "Age": age.astype(float),
            "Sex": np.array(["F", "M"])[sex * 1],
            "View": np.array(["AP", "PA", "LATERAL"])[view],
            "Edema": np.array(["N", "P"])[edema * 1],
            "Weight": weight,
            "Healthy": np.array(["P", "N"])[edema * 1],
        }
    )


def held_out(table: pd.DataFrame, **options) -> Cohort:
    return Cohort(table, splits=["test"] * len(table), **options)


@pytest.fixture(scope="module")
def model() -> SCM:
    return SCM(GRAPH).fit(Cohort(population(2 * N, seed=1)))


@pytest.fixture(scope="module")
def drawn(model) -> pd.DataFrame:
    """Samples of the model, for which its equations are right whatever they learned."""
    return model.sample(N).table


@pytest.fixture(scope="module")
def right(model, drawn):
    return check(model, held_out(drawn))


# A right model


def test_right_model_passes_every_check(right):
    assert right.failed == {}
    assert not right.untested
    assert right.family == len(right.table) == 6 + 6 + 6 + 4  # noise, parents, own, likelihood
    assert str(right) == (
        f"0 of 6 equations fail on {N:,} records (test); {right.family} tests, "
        "false discovery rate 0.01, least 0.02"
    )
    assert set(right.table["test"]) == {
        "noise",
        "independence",
        "calibration",
        "coverage",
        "likelihood",
    }


@pytest.mark.parametrize("seed", [2, 3])
def test_right_model_passes_on_other_samples(model, seed):
    assert check(model, held_out(model.sample(N, seed=seed).table)).failed == {}


def test_likelihood_gain_is_the_true_one(model):
    table = population()
    result = check(model, held_out(table), alpha=1e-9).likelihood
    z = (table["Age"] - 60) / 12 + np.where(table["Sex"] == "M", 0.8, -0.8)
    y = (table["Edema"] == "P").to_numpy()
    true = np.where(y, np.log(expit(z)), np.log(expit(-z)))
    marginal = np.where(y, np.log(y.mean()), np.log(1 - y.mean()))
    row = result.loc["Edema"]
    assert row["gain"] == pytest.approx((true - marginal).mean(), abs=0.006)
    assert row["error"] == pytest.approx((true - marginal).std() / N**0.5, rel=0.05)
    assert result.loc["Weight", "log_prob"] == pytest.approx(-stats.norm(0, 5).entropy(), abs=0.05)
    assert abs(result.loc["Sex", "gain"]) < 1e-3


def test_row_order_does_not_matter(model):
    table = population(900)
    one = check(model, held_out(table), rows=400)
    two = check(model, held_out(table.sample(frac=1, random_state=0)), rows=400)
    assert one.rows == two.rows == 400
    for column in ("effect", "p", "q"):
        np.testing.assert_allclose(one.table[column], two.table[column], rtol=1e-6, atol=1e-12)


def test_result_is_immutable(right):
    table, likelihood = right.table, right.likelihood
    table["failed"] = True
    likelihood["gain"] = -1.0
    assert right.failed == {}
    assert right.likelihood.loc["Edema", "gain"] > 0.2
    with pytest.raises(AttributeError):
        right.alpha = 0.5


# Wrong ones


def failures(model: SCM, table: pd.DataFrame, **columns) -> dict[str, str]:
    told = check(model, held_out(table.assign(**columns))).failed
    return {name: " | ".join(why) for name, why in told.items()}


def test_only_the_child_of_swapped_parents_fails():
    """The equation of Y learned the effect of A where it should have learned that of B."""
    random, n = np.random.default_rng(1), 6000
    a, b = random.normal(size=(2, n))
    y = np.where(random.random(n) < expit(2 * a), "P", "N")
    graph = Graph(
        [
            Variable("A", "continuous", mechanism={"kind": "flow", "epochs": 1}),
            Variable("B", "continuous", mechanism={"kind": "flow", "epochs": 1}),
            Variable("Y", "binary", parents=("A", "B")),
        ]
    )
    splits = np.repeat(["train", "test"], n // 2)
    truth = Cohort(pd.DataFrame({"A": a, "B": b, "Y": y}), splits=splits)
    swapped = Cohort(pd.DataFrame({"A": b, "B": a, "Y": y}), splits=splits)
    assert check(SCM(graph).fit(truth), truth).failed == {}
    result = check(SCM(graph).fit(swapped), truth)
    assert set(result.failed) == {"Y"}
    told = " | ".join(result.failed["Y"])
    assert "its noise depends on A" in told
    assert "its noise depends on B" in told
    assert "its probabilities of P are off by" in told
    assert "its gain over the marginal is -0." in told
    assert result.likelihood.loc["Y", "gain"] < -0.3


def spread(table: pd.DataFrame, factor) -> pd.Series:
    """Weights further from the mean of their sex."""
    mean = table.groupby("Sex")["Weight"].transform("mean")
    return mean + factor * (table["Weight"] - mean)


def test_wider_spread_fails_noise_and_coverage(model, drawn):
    result = failures(model, drawn, Weight=spread(drawn, 1.6))
    assert set(result) == {"Weight"}
    assert "its noise is not the prior's" in result["Weight"]
    assert "50% intervals hold 3" in result["Weight"]


def test_spread_that_depends_on_a_parent_fails_independence(model, drawn):
    factor = np.where(drawn["Sex"] == "M", 1.3, 0.7)
    result = failures(model, drawn, Weight=spread(drawn, factor))
    assert set(result) == {"Weight"}
    assert "its noise depends on Sex" in result["Weight"]


def test_other_proportions_fail_noise_and_calibration(model, drawn):
    random = np.random.default_rng(4)
    result = failures(model, drawn, View=drawn["View"].mask(random.random(N) < 0.15, "LATERAL"))
    assert set(result) == {"View"}
    assert "its noise is not the prior's" in result["View"]
    assert "its probabilities of LATERAL are off by 0.1" in result["View"]


def test_values_that_contradict_a_rule_are_counted(model, drawn):
    table = drawn.copy()
    table.loc[:299, "Healthy"] = np.where(table.loc[:299, "Healthy"] == "P", "N", "P")
    result = check(model, held_out(table))
    assert set(result.failed) == {"Healthy"}
    assert "300 of 6,000 values are impossible under it" in result.failed["Healthy"]
    assert result.likelihood.loc["Healthy", "log_prob"] == -np.inf


def test_deterministic_abduction_fails_noise(model, drawn, monkeypatch):
    """One noise value per level has right masses, but not the distribution of the prior."""

    def naive(self, x, draws):
        """The middle of the cell of the level."""
        masses = torch.stack([self.log_prob(0 * x.nan_to_num() + k).exp() for k in range(2)], 1)
        middle = masses.cumsum(1) - masses / 2
        at = x.nan_to_num().long()[:, None]
        return middle.gather(1, at)[:, 0].masked_fill(x.isnan(), torch.nan)

    monkeypatch.setattr(MonotoneEquation, "abduct", naive)
    result = check(model, held_out(drawn)).failed
    for name in ("Sex", "Edema"):
        assert len(result[name]) == 1
        assert "its noise is not the prior's" in result[name][0]


# Records


def test_records_of_one_patient_are_clustered(model, drawn):
    table = drawn[:400]
    many = table.loc[table.index.repeat(20)].reset_index(drop=True)
    alone = check(model, held_out(table))
    alike = check(model, held_out(many, patients=np.repeat(np.arange(400), 20)))
    naive = check(model, held_out(many))
    assert alone.failed == alike.failed == {}
    weight = alike.table.set_index(["variable", "test", "against"]).loc[("Weight", "noise", "")]
    assert 300 < weight["effective"] < 500
    assert alike.likelihood.loc["Edema", "error"] == pytest.approx(
        alone.likelihood.loc["Edema", "error"], rel=0.01
    )
    assert naive.table["p"].min() < alike.table["p"].min()


def test_missing_values_are_left_out(model, drawn):
    table = drawn.copy()
    table.loc[::3, "Sex"] = None
    table["Edema"] = None
    result = check(model, held_out(table))
    rows = result.table.set_index(["variable", "test"])
    assert rows.loc[("Sex", "noise"), "n"] == 4000
    assert rows.loc[("Weight", "noise"), "n"] == N
    assert "Weight" not in result.failed
    assert set(result.untested) == {"Edema", "Healthy"}
    assert result.untested["Edema"] == f"0 of {N:,} records can be tested; 50 are needed"


def test_validation_rows_are_checked_by_default(model):
    result = check(model, Cohort(population()))
    assert result.where == "val"
    assert 400 < result.rows < 800
    assert check(model, Cohort(population()), split="all").rows == N


def test_check_refuses_unusable_input(model):
    cohort = Cohort(population(200))
    with pytest.raises(ModelError, match=r"not been fitted; .* write model = model.fit"):
        check(SCM(GRAPH), cohort)
    with pytest.raises(ModelError, match="stale after an edit of the graph: View"):
        check(model.with_graph(GRAPH.add_edge("Sex", "View")), cohort)
    with pytest.raises(ModelError, match="none of 200 records is in the test split"):
        check(model, cohort, split="test")
    with pytest.raises(ModelError, match="no split 'tset'"):
        check(model, cohort, split="tset")


def test_plot_shows_every_equation(right, tmp_path):
    page = right.plot(tmp_path / "check.png")
    assert (tmp_path / "check.png").read_bytes().startswith(b"\x89PNG")
    assert len(page.axes) == 2 * 6
    words = {text.get_text() for text in page.texts}
    assert set(GRAPH.tabular) < words


# The tests themselves, against closed forms


def test_p_values_are_uniform_under_the_null():
    random, result = np.random.default_rng(0), {"levels": [], "numbers": [], "calibration": []}
    for _ in range(300):
        r, cause = random.random(500), random.integers(0, 3, 500).astype(float)
        cause[::7] = np.nan
        p = random.uniform(0.2, 0.8, 500)
        result["levels"].append(goodness.independence(r, cause, 3, 500).p)
        result["numbers"].append(goodness.independence(r, random.normal(size=500), 0, 500).p)
        result["calibration"].append(goodness.calibration(p, random.random(500) < p, 500).p)
    for ps in result.values():
        assert stats.kstest(ps, "uniform").pvalue > 1e-3


def test_calibration_error_is_debiased():
    random = np.random.default_rng(1)
    p = random.uniform(0.1, 0.8, 20_000)
    y = (random.random(20_000) < p + 0.07).astype(float)
    result = goodness.calibration(p, y, 20_000)
    assert result.effect == pytest.approx(0.07, abs=0.01)
    assert result.p < 1e-12
    few = [
        goodness.calibration(p[k : k + 200], (random.random(200) < p[k : k + 200]) * 1.0, 200)
        for k in range(0, 20_000, 200)
    ]
    plain = [
        np.sqrt(np.average((b[:, 0] - b[:, 1]) ** 2, weights=b[:, 2]))
        for b in (
            goodness.calibration_bins(p[k : k + 200], (random.random(200) < p[k : k + 200]) * 1.0)
            for k in range(0, 20_000, 200)
        )
    ]
    assert np.median([each.effect for each in few]) < 0.5 * np.median(plain)


def test_kolmogorov_smirnov_distance_of_many_records():
    n = 100_000
    grid = ((np.arange(n) + 0.5) / n)[:, None]
    assert goodness.same_distribution(grid, grid, n) == goodness.FitTest(0.0, 1.0)
    result = goodness.same_distribution(grid + 0.02, grid, n)
    assert result.effect == pytest.approx(0.02, abs=1e-4)
    assert result.p < 1e-12
