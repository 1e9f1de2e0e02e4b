"""The bootstrap over patients: draws that equal resampled rows, and intervals that cover."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from causalcxr.audit.bootstrap import Validation, bootstrap, patient_counts
from causalcxr.audit.groups import balance, find_groups
from causalcxr.audit.intervals import bca
from causalcxr.audit.measures import MEASURES, measured
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import percentile_interval


class World:
    """400 rows of 150 patients, scored with ties, in overlapping groups."""

    def __init__(self, seed: int = 0, n: int = 400, patients: int = 150) -> None:
        rng = np.random.default_rng(seed)
        self.patients = np.concatenate([np.arange(patients), rng.integers(0, patients, n)])[:n]
        self.scores = rng.beta(2, 3, n).round(2)
        self.labels = (rng.random(n) < self.scores).astype(float)
        self.labels[rng.random(n) < 0.1] = np.nan
        self.sex, self.view = rng.integers(0, 2, n), rng.integers(0, 3, n)
        self.groups = {"all": np.ones(n, bool), "F": self.sex == 0, "M": self.sex == 1}
        self.groups["F & AP"] = (self.sex == 0) & (self.view == 0)
        self.weights = rng.gamma(2, size=n)

    def draws(self, **options):
        options = {"patients": self.patients, "draws": 25, "seed": 3} | options
        return bootstrap(self.scores, self.labels, self.groups, **options)

    def rows(self, counts: np.ndarray) -> np.ndarray:
        """Return the rows of patients who are drawn so often, in their order of appearance."""
        order = list(dict.fromkeys(self.patients))
        mine = [np.flatnonzero(self.patients == patient) for patient in order]
        return np.concatenate(
            [rows for rows, k in zip(mine, counts, strict=True) for _ in range(k)]
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rule", ["0.4", "youden", "sensitivity=0.9", "fpr=0.1"])
def test_draws_equal_measures_of_the_drawn_patients(rule, weighted):
    world = World()
    weights = world.weights if weighted else None
    found = world.draws(threshold=rule, weights=weights)
    counts = patient_counts(150, range(25), 3)
    for draw, limit, count in zip(found.draws, found.thresholds, counts, strict=True):
        rows = world.rows(count)
        p, y = world.scores[rows], world.labels[rows]
        w = None if weights is None else weights[rows]
        assert limit == ThresholdRule.read(rule).choose(p, y, w)
        for at, mask in enumerate(world.groups.values()):
            mine = mask[rows]
            expected = measured(
                p[mine], y[mine], threshold=limit, weights=None if w is None else w[mine]
            )
            assert draw[at] == pytest.approx(list(expected.values()), abs=1e-10, nan_ok=True)


def test_validation_patients_are_drawn_separately():
    world, other = World(), World(seed=9, n=300, patients=300)
    validation = Validation(other.scores, other.labels, other.patients)
    found = world.draws(threshold="sensitivity=0.8", validation=validation)
    drawn = patient_counts(300, range(25), 3, stream=1)
    rule = ThresholdRule("sensitivity", 0.8)
    expected = [rule.choose(other.scores, other.labels, count) for count in drawn]
    assert found.thresholds.tolist() == expected
    assert len(set(expected)) > 3
    assert found.threshold == rule.choose(other.scores, other.labels)
    fixed = world.draws(threshold=found.threshold)
    assert (fixed.estimate == found.estimate).all()
    # That the threshold was estimated is part of the uncertainty.
    at = found.measures.index("selection_rate")
    assert found.draws[:, 0, at].std() > 1.2 * fixed.draws[:, 0, at].std()
    assert (found.select("M", "auroc") == fixed.select("M", "auroc")).all()


def test_estimates_equal_fairlearn():
    world = World()
    known = ~np.isnan(world.labels)
    p, y, sex = world.scores[known], world.labels[known], world.sex[known]
    w = world.weights[known]
    found = bootstrap(p, y, sex, threshold=0.4, weights=w, draws=3)
    rates = {"tpr": recall_score, "fpr": false_positive_rate, "selection_rate": selection_rate}
    frame = MetricFrame(
        metrics=rates,
        y_true=y,
        y_pred=p >= 0.4,
        sensitive_features=sex,
        sample_params={name: {"sample_weight": w} for name in rates},
    )
    table = found.table().pivot(index="group", columns="measure", values="estimate")
    ours = table[list(frame.by_group)].to_numpy()
    assert np.abs(ours - frame.by_group.to_numpy()).max() < 1e-10
    spread = found.spread().set_index("measure")["spread"]
    assert spread[list(frame.by_group)].to_dict() == pytest.approx(
        frame.difference().to_dict(), abs=1e-10
    )
    gap = found.gaps("0").set_index("measure")["gap"]
    assert gap["auroc"] == pytest.approx(
        roc_auc_score(y[sex == 1], p[sex == 1], sample_weight=w[sex == 1])
        - roc_auc_score(y[sex == 0], p[sex == 0], sample_weight=w[sex == 0]),
        abs=1e-10,
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 2), st.integers(0, 2**64 - 1))
def test_draws_do_not_depend_on_chunks_or_threads(chunk, threads, seed):
    world = World(n=200, patients=120)
    options = {"seed": seed, "threshold": "youden", "weights": world.weights, "blocks": 0}
    one = world.draws(**options)
    other = world.draws(chunk=chunk, threads=threads, **options)
    assert np.array_equal(one.draws, other.draws, equal_nan=True)
    assert np.array_equal(one.thresholds, other.thresholds, equal_nan=True)
    fewer = world.draws(**(options | {"draws": 7}))
    assert np.array_equal(one.draws[:7], fewer.draws, equal_nan=True)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_draws_do_not_depend_on_row_order(random):
    world = World(n=200, patients=120)
    one = world.draws(draws=5)
    later = list(range(120, 200))  # the first 120 rows name the patients in their order
    random.shuffle(later)
    order = np.array([*range(120), *later])
    other = bootstrap(
        world.scores[order],
        world.labels[order],
        {name: mask[order] for name, mask in world.groups.items()},
        patients=world.patients[order],
        draws=5,
        seed=3,
    )
    assert other.draws == pytest.approx(one.draws, abs=1e-12, nan_ok=True)


def test_patient_counts_are_multinomial():
    counts = patient_counts(50, range(4000), 0)
    assert (counts.sum(1) == 50).all()
    assert counts.mean(0) == pytest.approx(np.ones(50), abs=4 * np.sqrt(0.98 / 4000))
    assert counts.var() == pytest.approx(0.98, abs=0.02)
    assert np.corrcoef(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-1 / 49, abs=0.064)
    for other in (patient_counts(50, range(4000), 1), patient_counts(50, range(4000), 0, 1)):
        assert abs(np.corrcoef(counts.ravel(), other.ravel())[0, 1]) < 0.01
    assert (patient_counts(50, range(70, 75), 0) == counts[70:75]).all()


def test_undefined_measures_are_counted():
    world = World(n=60, patients=60)
    few = np.zeros(60, bool)
    few[np.flatnonzero(world.labels == 1)[:2]] = True
    few[np.flatnonzero(world.labels == 0)[:1]] = True
    world.groups = {"all": np.ones(60, bool), "few": few, "ill": world.labels == 1}
    found = world.draws(draws=400)
    table = found.table().set_index(["group", "measure"])
    # Without the one healthy patient, (1 - 1/60)^60; without both ill ones, (1 - 2/60)^60.
    neither = (1 - 1 / 60) ** 60 + (1 - 2 / 60) ** 60 - (1 - 3 / 60) ** 60
    missing = table.loc[("few", "auroc"), "undefined"] / 400
    assert missing == pytest.approx(neither, abs=4 * np.sqrt(neither * (1 - neither) / 400))
    few_auroc = table.loc[("few", "auroc")]
    assert np.isfinite(few_auroc["estimate"])
    assert np.isnan([few_auroc["low"], few_auroc["high"]]).all()  # over 5 % undefined
    ill = table.loc[("ill", "fpr")]
    assert np.isnan(ill["estimate"])
    assert ill["undefined"] == 400
    gaps = found.gaps("all").set_index(["group", "measure"])
    assert np.isnan(gaps.loc[("ill", "fpr"), ["gap", "low", "p"]].astype(float)).all()


def test_error_is_that_of_patients_not_records():
    rng = np.random.default_rng(0)
    ten, one = np.repeat(np.arange(100), 10), np.arange(100)
    p, y = rng.random(100), rng.integers(0, 2, 100)
    copies = {"scores": p[ten], "labels": y[ten], "groups": np.zeros(1000, int)}
    single = bootstrap(p, y, np.zeros(100, int), patients=one, draws=50)
    copied = bootstrap(**copies, patients=ten, draws=50)
    naive = bootstrap(**copies, draws=50)
    at = single.measures.index("auroc")
    assert copied.draws[..., at] == pytest.approx(single.draws[..., at], abs=1e-12)
    ratio = single.draws[..., at].std() / naive.draws[..., at].std()
    assert ratio == pytest.approx(np.sqrt(10), rel=0.35)


def test_progress_counts_draws():
    for threads in (1, 2):
        seen: list[int] = []
        World().draws(chunk=10, threads=threads, progress=seen.append)
        assert seen == [10, 20, 25]


def test_balancing_weights_equalise_prevalence():
    world = World(n=400)
    import pandas as pd

    table = pd.DataFrame({"Sex": world.sex, "View": world.view})
    groups = find_groups(table, "Sex", labels=world.labels)
    weights = balance(table, "Sex", "View", labels=world.labels).weights
    found = bootstrap(world.scores, world.labels, groups, weights=weights, draws=3)
    prevalence = found.estimate[:, found.measures.index("prevalence")]
    assert found.groups == ("all", "Sex=0", "Sex=1")
    assert np.ptp(prevalence) < 1e-12


def test_wrong_bootstrap_arguments_are_refused():
    world = World()
    for options, told in (
        ({"patients": world.patients[:5]}, "shape .5,. beside 400 rows"),
        ({"measures": ["auroc", "tprs"]}, "did you mean 'tpr'"),
        ({"threshold": "youden=1"}, "has no value"),
        ({"draws": 0}, "draws=0"),
        ({"seed": -1}, "seed=-1"),
        ({"patients": [None, *world.patients[1:]]}, "row 0 has no patient .1 of 400 rows."),
    ):
        with pytest.raises(CausalCXRError, match=told):
            world.draws(**options)
    for groups, told in (
        ({"F": world.sex[:9] == 0}, "group 'F'"),
        ({"F": world.sex}, "truth values"),
        ({}, "there is no group"),
        (world.scores, "must be integers or named masks"),
    ):
        world.groups = groups
        with pytest.raises(CausalCXRError, match=told):
            world.draws()
    found = World().draws(blocks=0, draws=4)
    for ask, told in (
        (lambda: found.table(method="bca"), "needs the jackknife"),
        (lambda: found.table(method="bcaa"), "did you mean 'bca'"),
        (lambda: found.gaps("N"), "no group 'N'"),
        (lambda: found.select("F", "aurok"), "did you mean 'auroc'"),
    ):
        with pytest.raises(CausalCXRError, match=told):
            ask()


def test_bootstrap_intervals_cover():
    rng, repeats, hits = np.random.default_rng(5), 200, np.zeros((2, 3))
    # Normal scores, means 1 and 1/2 of ill women and men: P(score > 0), P(ill woman > healthy).
    women, men, area = 0.8413447460685429, 0.6914624612740131, 0.7602499389065233
    for seed in range(repeats):
        patients = np.repeat(np.arange(120), 2)
        female, ill = rng.random(120) < 0.5, rng.random(120) < 0.5
        mean = np.where(ill, np.where(female, 1.0, 0.5), 0.0)
        noise = np.sqrt(0.5) * (rng.normal(size=120)[patients] + rng.normal(size=240))
        female, ill = female[patients], ill[patients]
        found = bootstrap(
            mean[patients] + noise,
            ill,
            {"F": female, "M": ~female},
            patients=patients,
            threshold=0.0,
            measures=["tpr", "auroc"],
            draws=250,
            seed=seed,
            blocks=40,
        )
        draws, left = found.draws, found.jackknife
        asked = [(found.estimate[0, i], draws[:, 0, i], left[:, 0, i]) for i in (0, 1)]
        asked += [tuple(a[..., 1, 0] - a[..., 0, 0] for a in (found.estimate, draws, left))]
        for j, (true, each) in enumerate(zip((women, area, men - women), asked, strict=True)):
            for i, found_in in enumerate(
                (percentile_interval(each[1]), bca(each[1], each[0], each[2]))
            ):
                hits[i, j] += found_in.low <= true <= found_in.high
    # 95 %, less what about 30 ill patients a group cost, four standard errors of 200 repeats wide.
    assert (hits / repeats > 0.875).all()
    assert (hits / repeats < 0.995).all()
    assert hits.mean() / repeats > 0.915


def test_bca_corrects_a_debiased_measure():
    rng = np.random.default_rng(0)
    p = rng.random(3000)
    y = rng.random(3000) < np.clip(p + 0.03, 0, 1)
    found = bootstrap(
        p, y, np.zeros(3000, int), measures=["calibration_debiased"], draws=400, blocks=50
    )
    draws, estimate = found.draws[:, 0, 0], found.estimate[0, 0]
    assert (draws > estimate).mean() > 0.6  # the data's noise is counted once, the draw's is not
    plain, corrected = (found.table(method=m).iloc[0] for m in ("percentile", "bca"))
    assert corrected["high"] < plain["high"]
    assert corrected["low"] < estimate < corrected["high"]


def test_tables_hold_quantiles_errors_and_tails():
    found = World().draws(draws=300, measures=["auroc", "brier"])
    at = found.groups.index("M"), found.measures.index("brier")
    draws = found.draws[(slice(None), *at)]
    row = found.table(0.9).set_index(["group", "measure"]).loc[("M", "brier")]
    expected = [found.estimate[at], draws.std(ddof=1), *np.quantile(draws, [0.05, 0.95]), 0]
    assert row.tolist() == pytest.approx(expected, abs=1e-12)
    assert (draws == found.select("M", "brier")).all()
    gap = found.gaps("all").set_index(["group", "measure"]).loc[("M", "brier")]
    less = draws - found.select("all", "brier")
    assert gap["gap"] == found.estimate[at] - found.estimate[0, at[1]]
    assert gap["low"] == pytest.approx(np.quantile(less, 0.025), abs=1e-12)
    assert gap["p"] == pytest.approx(2 * (min((less <= 0).sum(), (less >= 0).sum()) + 1) / 301)
    spread = found.spread(["F", "M"]).set_index("measure")
    between = np.abs(found.select("F", "brier") - draws)
    assert spread.loc["brier", "high"] == pytest.approx(np.quantile(between, 0.975), abs=1e-12)
    corrected = found.table(0.9, "bca").set_index(["group", "measure"]).loc[("M", "brier")]
    left = found.jackknife[(slice(None), *at)]
    expected = bca(draws, found.estimate[at], left, 0.9)
    assert corrected["low"] == pytest.approx(float(expected.low), abs=1e-12)
    assert found.jackknife.shape == (100, 4, 2)


@pytest.mark.slow
def test_bootstrap_of_100_000_patients_takes_at_most_a_minute():
    from benchmarks.audit.bootstrap import in_a_process

    row = in_a_process("10 groups, a third of all on average", 100_000, 2000, 1)
    assert row["processor s"] < 60  # on one thread of a machine that others use, too
    assert row["peak MiB"] < 2048


def test_measure_names_are_unique():
    assert list(MEASURES) == [measure.name for measure in MEASURES.values()]
    assert len({measure.words for measure in MEASURES.values()}) == len(MEASURES)
