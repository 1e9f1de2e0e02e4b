"""The structural causal model: the axioms of counterfactuals, and known figures."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

import causalcxr as cx
from causalcxr import Cohort, Graph, Shift, Variable, do
from causalcxr.common.errors import CohortError, InterventionError, ModelError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.images.images import ArrayImages
from causalcxr.images.resampling import Resampling
from causalcxr.radit import train_run
from causalcxr.sources.phantom import truth


def binary(name: str, *parents: str, levels: tuple[str, str] = ("N", "P"), **options) -> Variable:
    mechanism = {"kind": "discrete", **options}
    return Variable(name, "binary", levels=levels, parents=parents, mechanism=mechanism)


def same(one: Cohort, two: Cohort) -> bool:
    """Whether two tables are bit-exact; missing equals missing."""
    pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
    return True


# The axioms, on the expert graph with values missing


@pytest.mark.parametrize("recompute", [False, True])
def test_null_intervention_returns_the_patient(expert, phantoms, recompute):
    assert phantoms.table["Race"].isna().sum() > 600
    assert same(expert.counterfactual(phantoms, recompute=recompute), phantoms)


@pytest.mark.parametrize("recompute", [False, True])
def test_setting_observed_values_returns_the_patient(expert, phantoms, recompute):
    observed = do(sex=lambda s: s, race=lambda r: r, view=lambda v: v)
    assert same(expert.counterfactual(phantoms, observed, recompute=recompute), phantoms)


@pytest.mark.parametrize("recompute", [False, True])
def test_only_descendants_change(expert, phantoms, recompute):
    action = do({"Pleural Effusion": "P"}, sex="M", age=71)
    twins = expert.counterfactual(phantoms, action, recompute=recompute)
    assert (twins.table["Sex"] == "M").all()
    assert (twins.table["Age"] == 71).all()
    assert (twins.table["Pleural Effusion"] == "P").all()
    touched = expert.graph.descendants("Sex", "Age", "Pleural Effusion")
    touched |= {"Sex", "Age", "Pleural Effusion"}
    kept = [name for name in expert.graph.tabular if name not in touched]
    assert {"Race", "Dataset", "View"} <= set(kept)
    pd.testing.assert_frame_equal(twins.table[kept], phantoms.table[kept], check_exact=True)
    assert (twins.table["No Finding"] == "N").all()


def test_missing_value_stays_missing_unless_set(expert, phantoms):
    absent = phantoms.table["Edema"].isna().to_numpy()
    twins = expert.counterfactual(phantoms, age=30, recompute=True)
    assert (twins.table["Edema"].isna() == absent).all()
    assert absent.sum() == 40
    assert not expert.counterfactual(phantoms, edema="P").table["Edema"].isna().any()


def test_shift_leaves_missing_values_missing(expert, phantoms):
    young = phantoms.select("Age <= 90 or Age is missing")
    before, after = young.table["Age"], expert.counterfactual(young, age=Shift(10)).table["Age"]
    assert before.isna().sum() == 100
    pd.testing.assert_series_equal(after, before + 10)


# A patient's twin depends on that patient alone


def test_twins_do_not_depend_on_other_records(expert, phantoms):
    action = do(sex="M", age=40, view="AP")
    twins = expert.counterfactual(phantoms, action, seed=3)
    order = np.random.default_rng(0).permutation(len(phantoms))
    for rows in (order, order[:700], order[:1], order[1:2], slice(0, 64)):
        part = expert.counterfactual(phantoms.at(rows), action, seed=3)
        assert same(part, twins.at(rows))


def test_seed_determines_the_twins(expert, phantoms):
    one, two, other = (expert.counterfactual(phantoms, age=90, seed=s) for s in (1, 1, 2))
    assert same(one, two)
    assert one.compare(other).changed.to_numpy().any()


def test_first_draw_equals_the_single_one(expert, phantoms):
    few = phantoms.head(400)
    many = expert.counterfactual(few, age=95, draws=5, seed=1)
    assert many.index.names == ["record", "draw"]
    assert len(many) == 2000
    first = many.table.xs(0, level="draw")
    single = expert.counterfactual(few, age=95, seed=1).table
    pd.testing.assert_frame_equal(first, single, check_exact=True)
    spread = (many.table["Cardiomegaly"] == "P").groupby("record").nunique()
    assert (spread == 2).sum() > 20


def test_twins_of_twins(expert, phantoms):
    men = expert.counterfactual(phantoms, sex="M")
    old_men = expert.counterfactual(men, age=80)
    assert (old_men.table["Sex"] == "M").all()
    assert old_men.source == "phantom, counterfactual"
    assert old_men.notes[-2:] == ["do(Sex=M)", "do(Age=80)"]
    with pytest.raises(CohortError, match="give at least 1"):
        expert.counterfactual(expert.counterfactual(phantoms, draws=2), draws=2)
    with pytest.raises(CohortError, match="give at least 1"):
        expert.counterfactual(phantoms, draws=0)


# The three steps


def test_abduct_do_predict_is_the_counterfactual(expert, phantoms):
    noise = expert.abduct(phantoms, seed=5)
    by_hand = expert.do(sex="M").do(age=50).predict(noise)
    assert same(by_hand, expert.counterfactual(phantoms, do(sex="M", age=50), seed=5))
    assert same(by_hand, expert.counterfactual(phantoms, do(sex="M"), age=50, seed=5))
    assert same(by_hand, expert.counterfactual(phantoms, {"Sex": "M", "Age": 50}, seed=5))


def test_do_shares_the_weights(expert):
    men = expert.do(sex="M")
    assert "do" not in repr(expert)
    assert "do(Sex=M)" in repr(men)
    assert men.fitted is expert.fitted


def test_held_variable_keeps_its_value(expert, phantoms):
    held = expert.counterfactual(phantoms, age=99, hold=["cardiomegaly"])
    free = expert.counterfactual(phantoms, age=99)
    assert (free.table["Cardiomegaly"] != phantoms.table["Cardiomegaly"]).sum() > 50
    assert (held.table["Cardiomegaly"] == phantoms.table["Cardiomegaly"]).all()
    only = "Enlarged Cardiomediastinum"  # its one parent is held
    assert (held.table[only] == phantoms.table[only]).all()
    assert (free.table[only] != phantoms.table[only]).any()
    assert "held: Cardiomegaly" in held.notes[-1]


@pytest.fixture(scope="module")
def mediated() -> tuple[cx.SCM, Cohort]:
    """A -> M -> B -> Y, A -> Y, M -> Y; Y is a weight, M has three levels."""
    graph = Graph(
        [
            binary("A"),
            Variable(
                "M",
                "categorical",
                levels=("x", "y", "z"),
                parents=("A",),
                mechanism={"kind": "discrete", "epochs": 6},
            ),
            binary("B", "M", epochs=6),
            Variable(
                "Y",
                "continuous",
                unit="kg",
                parents=("A", "M", "B"),
                mechanism={"kind": "flow", "bins": 4, "epochs": 3},
            ),
        ]
    )
    random = np.random.default_rng(1)
    n = 4000
    a = random.random(n) < 0.5
    m = (random.random(n)[:, None] > np.where(a[:, None], [0.2, 0.5], [0.6, 0.8])).sum(1)
    b = random.random(n) < 0.2 + 0.3 * m
    y = 50 + 10 * a + 4.0 * m + 6 * b + random.normal(0, 5, n)
    table = {"A": np.array(["N", "P"])[a * 1], "M": np.array(["x", "y", "z"])[m]}
    table |= {"B": np.array(["N", "P"])[b * 1], "Y": y}
    cohort = Cohort(pd.DataFrame(table))
    return cx.SCM(graph).fit(cohort), cohort


@pytest.fixture(scope="module")
def reseeded(mediated) -> cx.SCM:
    """The same model, fitted with another seed."""
    model, cohort = mediated
    return model.fit(cohort, seed=9)


def test_two_interventions_compose_the_equations(mediated):
    model, cohort = mediated
    action = do(a="P", b="N")
    anew = model.counterfactual(cohort, action, seed=2, recompute=True).columns(model.graph)
    kept = model.counterfactual(cohort, action, seed=2).columns(model.graph)
    old = {k: torch.from_numpy(v) for k, v in cohort.columns(model.graph).items()}
    draws = Draws(record_keys(cohort.records), 2, draw=cohort.draws)
    n = len(cohort)
    new = {"A": torch.ones(n).double(), "B": torch.zeros(n).double()}
    with torch.no_grad():
        for name in ("M", "Y"):
            equation, parents = model.fitted[name].mechanism, model.graph.parents(name)
            u = equation({p: old[p] for p in parents}).abduct(old[name], draws.on(name))
            new[name] = equation({p: new[p] for p in parents}).predict(u)
    moved = (old["A"] == 0) | (old["B"] == 1)
    assert (anew["M"] == new["M"].numpy()).all()
    assert (anew["M"] != old["M"].numpy()).sum() > 500
    assert np.abs(anew["Y"] - new["Y"].numpy()).max() < 1e-9
    assert np.abs(kept["Y"] - new["Y"].numpy())[moved].max() < 1e-9
    assert (kept["Y"] == old["Y"].numpy())[~moved].all()


def test_continuous_counterfactual_is_the_known_shift(mediated):
    model, cohort = mediated
    negative = cohort.select("A == 'N'")
    twins = model.counterfactual(negative, a="P", hold=["M", "B"])
    shift = (twins.table["Y"] - negative.table["Y"]).to_numpy()
    assert abs(shift.mean() - 10) < 0.5
    assert np.sqrt(((shift - 10) ** 2).mean()) < 1.5  # of a noise of 5
    back = model.counterfactual(twins, a="N", hold=["M", "B"])
    assert np.abs(back.table["Y"] - negative.table["Y"]).max() < 1e-5


def test_log_prob_of_each_equation(mediated):
    model, cohort = mediated
    table = cohort.table
    table.loc[0, "M"] = None
    logp = model.log_prob(Cohort(table))
    assert list(logp) == ["A", "M", "B", "Y"]
    assert logp["M"].isna().tolist()[:2] == [True, False]
    frequency = (cohort.table["A"] == "P").mean()
    assert np.exp(logp["A"][cohort.table["A"] == "P"]).iloc[0] == pytest.approx(
        frequency, abs=0.02
    )
    assert logp["Y"].mean() == pytest.approx(-np.log(5) - 0.5 * np.log(2 * np.pi * np.e), abs=0.06)


# Figures that are known


def test_flip_rate_is_the_closed_form():
    graph = Graph([binary("A"), binary("X", "A", epochs=8)])
    random = np.random.default_rng(0)
    a = random.random(12_000) < 0.5
    x = random.random(12_000) < np.where(a, 0.5, 0.2)
    words = np.array(["N", "P"])
    cohort = Cohort(pd.DataFrame({"A": words[a * 1], "X": words[x * 1]}))
    model = cx.SCM(graph).fit(cohort)
    negative = cohort.select("A == 'N' and X == 'N'")
    flipped = (model.counterfactual(negative, a="P").table["X"] == "P").mean()
    assert flipped == pytest.approx(0.375, abs=0.02)  # (.5 - .2) / (1 - .2)
    positive = cohort.select("A == 'N' and X == 'P'")
    assert (model.counterfactual(positive, a="P").table["X"] == "P").all()


@pytest.fixture(scope="module")
def population() -> tuple[cx.SCM, Cohort]:
    """Six variables of 20,000 phantoms, whose true twins are known."""
    names = ("Age", "Sex", "Race", "Cardiomegaly", "Enlarged Cardiomediastinum", "Fracture")
    graph = Graph.load("cxr7")
    graph = Graph([graph[name] for name in names])
    graph = graph.with_variable(graph["Age"].replace(mechanism="empirical"))
    cohort = Cohort.load("phantom", n=20_000, seed=0)
    return cx.SCM(graph).fit(cohort.with_images(None)), cohort


def test_flip_rates_equal_those_of_the_true_twins(population):
    model, cohort = population
    action = do(age=85, sex="F")
    made, true = model.counterfactual(cohort.with_images(None), action), truth(cohort, action)
    for name in ("Cardiomegaly", "Enlarged Cardiomediastinum", "Fracture"):
        old = cohort.table[name] == "P"
        for twin in (made, true):
            assert (twin.table[name] == "P")[old].mean() >= 0.5
        rates = [((c.table[name] == "P") & ~old).mean() for c in (made, true)]
        assert rates[0] == pytest.approx(rates[1], abs=0.01), name
    changed = [
        (c.table["Cardiomegaly"] != cohort.table["Cardiomegaly"]).mean() for c in (made, true)
    ]
    assert changed[1] > 0.05
    assert changed[0] == pytest.approx(changed[1], abs=0.015)


def test_counterfactual_and_interventional_marginals_agree(population):
    model, _ = population
    action = do(age=80, sex="F")
    own = model.sample(20_000, seed=1)
    twins, samples = model.counterfactual(own, action), model.do(action).sample(20_000, seed=2)
    for name in ("Cardiomegaly", "Enlarged Cardiomediastinum", "Fracture"):
        one, two = ((c.table[name] == "P").mean() for c in (twins, samples))
        assert abs(one - two) < 4 * np.sqrt(2 * max(two, 0.01) / 20_000), name


def test_samples_have_the_marginals_of_the_population(population):
    model, cohort = population
    samples = model.sample(20_000, seed=3)
    assert samples.source == "model"
    for name in ("Sex", "Race", "Cardiomegaly", "Fracture"):
        one, two = (c.table[name].value_counts(normalize=True) for c in (samples, cohort))
        assert (one - two).abs().max() < 0.015, name
    assert stats.ks_2samp(samples.table["Age"], cohort.table["Age"]).statistic < 0.02
    old = samples.table["Age"] > 70
    gap = [(c.table["Cardiomegaly"] == "P")[c.table["Age"] > 70].mean() for c in (samples, cohort)]
    assert old.sum() > 4000
    assert gap[0] == pytest.approx(gap[1], abs=0.015)
    assert same(model.sample(100, seed=3), samples.head(100))


# Sampling under interventions


def test_samples_are_independent_of_abducted_noise():
    graph = Graph([binary("A")])
    cohort = Cohort(pd.DataFrame({"A": ["N", "P"] * 1000}))
    model = cx.SCM(graph).fit(cohort)
    drawn = model.sample(2000, seed=4).table["A"].eq("P").to_numpy()
    noise = model.abduct(cohort, seed=4).values["A"].squeeze().numpy()
    within = noise - np.where(cohort.table["A"].eq("P"), noise[1::2].mean(), noise[::2].mean())
    assert abs(stats.pearsonr(within, drawn).statistic) < 0.1


def test_samples_under_do(expert):
    drawn = expert.do(sex="M", age=60).sample(50)
    assert (drawn.table["Sex"] == "M").all()
    assert (drawn.table["Age"] == 60).all()
    assert drawn.notes == ["sampled: do(Sex=M, Age=60)"]
    ages = list(range(20, 70))
    assert expert.do(age=ages).sample(50).table["Age"].tolist() == ages
    with pytest.raises(InterventionError, match="no factual 'Age' to start from"):
        expert.do(age=Shift(10)).sample(5)
    with pytest.raises(InterventionError, match="no factual 'Sex' to start from"):
        expert.do(sex=lambda s: s).sample(5)
    with pytest.raises(InterventionError, match="no factual value to hold"):
        expert.do(sex="M", hold=["View"]).sample(5)
    with pytest.raises(ModelError, match="n is 0; give at least 1"):
        expert.sample(0)


# Learning


def test_fit_does_not_depend_on_row_order():
    graph = Graph(
        [
            Variable(
                "Age",
                "continuous",
                range=(0, 105),
                resolution=1,
                mechanism={"kind": "flow", "bins": 4, "epochs": 2},
            ),
            binary("X", "Age"),
        ]
    )
    random = np.random.default_rng(0)
    age = random.integers(20, 90, 600).astype(float)
    words = np.where(random.random(600) < expit((age - 60) / 10), "P", "N")
    patients = [f"p{k // 2}" for k in range(600)]
    cohort = Cohort(pd.DataFrame({"Age": age, "X": words}), patients=patients)
    models = [cx.SCM(graph).fit(c) for c in (cohort, cohort.at(random.permutation(600)))]
    for name in graph.tabular:
        one, two = (model.fitted[name] for model in models)
        assert one.hash == two.hash
        state = two.mechanism.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in one.mechanism.state_dict().items())
    draws = cohort.repeat(2)
    models = [cx.SCM(graph).fit(c) for c in (draws, draws.at(random.permutation(1200)))]
    assert models[0].fitted["X"].hash == models[1].fitted["X"].hash


def test_second_fit_keeps_every_equation(expert, phantoms, mediated, reseeded):
    again = expert.fit(phantoms)
    assert all(again.fitted[name] is expert.fitted[name] for name in expert.fitted)
    model, _ = mediated
    assert not any(reseeded.fitted[name] is model.fitted[name] for name in model.fitted)


def test_new_column_refits_it_and_its_children(mediated):
    model, cohort = mediated
    table = cohort.table
    table["B"] = table["B"].to_numpy()[::-1]
    again = model.fit(Cohort(table))
    kept = {name for name in again.fitted if again.fitted[name] is model.fitted[name]}
    assert kept == {"A", "M"}


def test_unobserved_variable_has_no_equation(phantoms):
    graph = Graph(
        [binary("Sex", levels=("F", "M")), binary("Hernia", "Sex"), binary("X", "Hernia")]
    )
    words = ["N", "P"] * 1000
    cohort = Cohort(phantoms.table[["Sex"]].assign(X=words))
    model = cx.SCM(graph).fit(cohort)
    assert model.unseen == {"Hernia"}
    assert model.stale == {}
    twins = model.counterfactual(cohort, sex="M", recompute=True)
    assert "Hernia" not in twins.table
    assert twins.table["X"].tolist() == words
    assert model.sample(10).table["Hernia"].isna().all()
    with pytest.raises(InterventionError, match="0 training records have Hernia=P"):
        model.counterfactual(cohort, hernia="P")


def test_value_without_equation_is_lost_where_a_parent_changes():
    graph = Graph([binary("Sex", levels=("F", "M")), binary("Hernia", "Sex")])
    model = cx.SCM(graph).fit(Cohort(pd.DataFrame({"Sex": ["F", "M"] * 50})))
    seen = Cohort(pd.DataFrame({"Sex": ["F", "M"], "Hernia": ["P", "P"]}))
    twins = model.counterfactual(seen, sex="M")
    assert twins.table["Hernia"].isna().tolist() == [True, False]


def test_fit_needs_training_records():
    graph = Graph([binary("A")])
    cohort = Cohort(pd.DataFrame({"A": ["N", "P"]}), splits=["test", "val"])
    with pytest.raises(ModelError, match="none of 2 records is in the train split"):
        cx.SCM(graph).fit(cohort)
    with pytest.raises(ModelError, match="has not been fitted"):
        cx.SCM(graph).sample(2)


def test_graph_of_continuous_variables():
    graph = Graph(
        [Variable("Dose", "continuous"), Variable("Weight", "continuous", parents=["Dose"])]
    )
    random = np.random.default_rng(0)
    dose = random.normal(size=400)
    cohort = Cohort(pd.DataFrame({"Dose": dose, "Weight": 2 * dose + random.normal(size=400)}))
    model = cx.SCM(graph).fit(cohort)
    moved = model.counterfactual(cohort, dose=Shift(1.0)).table["Weight"] - cohort.table["Weight"]
    assert moved.mean() == pytest.approx(2, abs=0.4)


def test_noise_of_another_model_is_refused(mediated, reseeded, expert):
    model, cohort = mediated
    noise = model.abduct(cohort)
    with pytest.raises(ModelError, match=r"belongs to other equations .*A, B, M, Y"):
        reseeded.predict(noise)
    with pytest.raises(ModelError, match="belongs to other equations"):
        expert.predict(noise)
    smaller = model.with_graph(model.graph.without_variable("Y")).fit(cohort)
    with pytest.raises(ModelError, match=r"than the model's: Y;"):
        smaller.predict(noise)


# Images


class ImageModel:
    """A model of small images, and phantoms with images."""

    def __init__(self, cohort: Cohort) -> None:
        radit = {"kind": "radit", "resolution": 32, "steps": 3, "solver_steps": 2, "batch": 4}
        parents = ("Sex", "Cardiomegaly")
        self.graph = Graph(
            [
                binary("Sex", levels=("F", "M")),
                binary("Cardiomegaly", "Sex"),
                Variable("Image", "image", parents=parents, mechanism=radit),
            ]
        )
        self.cohort = cohort
        self.model = cx.SCM(self.graph).fit(self.cohort)


@pytest.fixture(scope="module")
def image_model(rendered_phantoms) -> ImageModel:
    return ImageModel(rendered_phantoms)


def test_null_intervention_returns_the_image(image_model):
    null = image_model.model.counterfactual(image_model.cohort, recompute=True)
    assert np.array_equal(null.images[:], image_model.cohort.images[:])


def test_image_changes_only_where_a_parent_changed(image_model):
    twins = image_model.model.counterfactual(image_model.cohort, sex="M")
    moved = np.abs(twins.images[:] - image_model.cohort.images[:]).max((1, 2, 3))
    women = (image_model.cohort.table["Sex"] == "F").to_numpy()
    assert (moved[~women] == 0).all()
    assert (moved[women] > 0).all()
    alone = image_model.model.counterfactual(image_model.cohort.at([3, 11]), sex="M")
    assert np.array_equal(alone.images[:], twins.images[[3, 11]])


def test_twins_of_records_without_an_image(image_model):
    some = np.arange(16) % 4 == 0
    pixels = image_model.cohort.images[:]
    partly = image_model.cohort.with_images(ArrayImages(pixels, some))
    twins = image_model.model.counterfactual(partly, sex="M")
    assert (twins.images.available == some).all()
    assert twins.images[some].shape == (4, 1, 32, 32)
    with pytest.raises(CohortError, match="no image"):
        twins.images[1]
    nobody = image_model.cohort.with_images(ArrayImages(pixels, np.zeros(16, bool)))
    assert image_model.model.counterfactual(nobody, sex="M").images is None
    none = image_model.cohort.with_images(None)
    assert image_model.model.counterfactual(none, sex="M").images is None


def of_size(cohort: Cohort, *size: int) -> Cohort:
    """Return records with images of random pixels of this size."""
    pixels = np.random.default_rng(0).integers(0, 65536, (len(cohort), *size))
    return cohort.with_images(ArrayImages(pixels.astype(np.uint16)))


def test_larger_images_have_twins_of_their_own_size(image_model):
    large = of_size(image_model.cohort.at([0, 1, 2, 3, 4]).with_images(None), 80, 60)
    women = (large.table["Sex"] == "F").to_numpy()
    assert 0 < women.sum() < 5
    twins = image_model.model.counterfactual(large, sex="M")
    assert twins.images.size == (80, 60)
    assert ((twins.images[:] != large.images[:]).any((1, 2, 3)) == women).all()
    null = image_model.model.counterfactual(large, recompute=True)
    assert (null.images[:] == large.images[:]).all()
    assert not null.images.synthetic.any()


def test_an_image_equation_learns_from_larger_images_shrunk(image_model):
    large = of_size(image_model.cohort.with_images(None), 64, 64)
    pixels = Resampling((64, 64), (32, 32)).shrink(large.images[:][:, 0])
    small = ArrayImages(np.rint(pixels * 65535).astype(np.uint16))
    nets = [
        cx.SCM(image_model.graph).fit(cohort).fitted["Image"].mechanism.net.state_dict().values()
        for cohort in (large, large.with_images(small))
    ]
    assert all(map(torch.equal, *nets))


def test_images_smaller_than_the_model_are_refused(image_model):
    small = of_size(image_model.cohort.with_images(None), 16, 31)
    words = "16 x 31 pixels, smaller than the model's 32 x 32; load larger images, or resize them"
    with pytest.raises(CohortError, match=words):
        image_model.model.counterfactual(small, sex="M")
    with pytest.raises(CohortError, match=words):
        cx.SCM(image_model.graph).fit(small)


def test_sampled_images_do_not_depend_on_the_batch(image_model):
    samples = image_model.model.do(sex="M").sample(5, seed=1)
    assert samples.images[:].shape == (5, 1, 32, 32)
    assert np.array_equal(samples.images[[4, 2]], samples.at([4, 2]).images[:])
    assert np.array_equal(
        image_model.model.do(sex="M").sample(3, seed=1).images[:], samples.images[:3]
    )


def test_solver_steps_change_without_a_fit(image_model):
    mechanism = {"kind": "radit", "resolution": 32, "steps": 3, "solver_steps": 3, "batch": 4}
    edited = image_model.graph.with_variable(
        image_model.graph["Image"].replace(mechanism=mechanism)
    )
    model = image_model.model.with_graph(edited)
    assert model.stale == {}
    assert model.fitted["Image"].mechanism.options["solver_steps"] == 3
    assert image_model.model.fitted["Image"].mechanism.options["solver_steps"] == 2
    again = model.fit(image_model.cohort)
    assert again.fitted["Image"] is model.fitted["Image"]
    few = image_model.cohort.head(2)
    null = model.counterfactual(few, recompute=True)
    assert np.array_equal(null.images[:], few.images[:])


def test_killed_image_fit_resumes(image_model, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    real, calls = train_run.velocity_loss, []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(train_run, "velocity_loss", dies)
    eager = partial(train_run.TrainConfig, save_every=-1.0)  # a checkpoint after every step
    monkeypatch.setattr("causalcxr.mechanisms.image.TrainConfig", eager)
    with pytest.raises(Killed):
        cx.SCM(image_model.graph).fit(image_model.cohort, folder=tmp_path)
    assert [p.name for p in tmp_path.glob("*/checkpoint.safetensors")] == [
        "checkpoint.safetensors"
    ]
    resumed = cx.SCM(image_model.graph).fit(image_model.cohort, folder=tmp_path)
    assert len(calls) == 4
    one, two = (m.fitted["Image"].mechanism.state_dict() for m in (resumed, image_model.model))
    assert all(torch.allclose(one[k], two[k], atol=1e-6) for k in one)


# Any small graph


@st.composite
def small_worlds(draw: st.DrawFn) -> tuple[Graph, Cohort, int]:
    """Draw a graph of 2 to 6 variables of mixed types, and records with gaps."""
    n = draw(st.integers(2, 6))
    variables = []
    for k in range(n):
        kind = draw(st.sampled_from(["binary", "ordinal", "categorical", "continuous", "lattice"]))
        parents = tuple(f"V{j}" for j in range(k) if draw(st.booleans()))
        if kind in ("continuous", "lattice"):
            step = {"resolution": 0.5, "range": (-20.0, 20.0)} if kind == "lattice" else {}
            mechanism = {"kind": "flow", "epochs": 2, "bins": 4, "hidden": 8}
            variables.append(
                Variable(f"V{k}", "continuous", parents=parents, mechanism=mechanism, **step)
            )
        else:
            levels = ("a", "b") if kind == "binary" else ("a", "b", "c")
            mechanism = {"kind": "discrete", "epochs": 2, "hidden": 8}
            if kind == "categorical":
                mechanism["coupling"] = "gumbel"
            variables.append(
                Variable(f"V{k}", kind, levels=levels, parents=parents, mechanism=mechanism)
            )
    seed, gaps = draw(st.integers(0, 2**20)), draw(st.sampled_from([0.0, 0.2]))
    return Graph(variables), invented(variables, seed, gaps), seed


def invented(variables: list[Variable], seed: int, gaps: float, n: int = 240) -> Cohort:
    """Return records in which each variable depends on its parents."""
    random, columns, table = np.random.default_rng(seed), {}, {}
    for v in variables:
        lean = sum((columns[p] for p in v.parents), np.zeros(n)) / (1 + len(v.parents))
        x = lean + random.normal(size=n)
        if v.is_discrete:
            x = np.digitize(x, [0] if len(v.levels) == 2 else [-0.5, 0.5]).astype(float)
        elif v.resolution:
            x = np.round(x / v.resolution) * v.resolution
        columns[v.name] = x
        raw = np.array(v.levels, dtype=object)[x.astype(int)] if v.is_discrete else x.copy()
        raw = raw.astype(object)
        raw[random.random(n) < gaps] = None
        table[v.name] = pd.Series(raw).infer_objects() if v.is_discrete else raw.astype(float)
    return Cohort(pd.DataFrame(table))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(world=small_worlds(), data=st.data())
def test_axioms_hold_on_fitted_random_graphs(world, data):
    graph, cohort, seed = world
    model = cx.SCM(graph).fit(cohort)
    null = model.counterfactual(cohort, recompute=True, seed=seed)
    columns, back = cohort.columns(graph), null.columns(graph)
    for name in graph.tabular:
        off = np.abs(back[name] - columns[name])
        exact = graph[name].is_discrete or graph[name].resolution
        assert (np.isnan(back[name]) == np.isnan(columns[name])).all()
        assert np.nanmax(off) <= (0 if exact else 1e-6), name
    chosen = data.draw(
        st.lists(st.sampled_from(graph.tabular), min_size=1, max_size=2, unique=True)
    )
    known = {n: columns[n][~np.isnan(columns[n])] for n in chosen}
    to = {
        n: graph[n].levels[int(known[n][0])] if graph[n].is_discrete else known[n][0]
        for n in chosen
    }
    twins = model.counterfactual(cohort, do(to, beyond_range=True), recompute=True, seed=seed)
    for name, value in to.items():
        assert (twins.table[name] == value).all()
    aside = set(graph.tabular) - graph.descendants(*chosen) - set(chosen)
    for name in aside:
        assert np.array_equal(twins.columns(graph)[name], back[name], equal_nan=True)
    rows = np.random.default_rng(seed).permutation(len(cohort))[:17]
    part = model.counterfactual(cohort.at(rows), do(to, beyond_range=True), seed=seed)
    whole = model.counterfactual(cohort, do(to, beyond_range=True), seed=seed)
    pd.testing.assert_frame_equal(part.table, whole.at(rows).table, check_exact=True)
