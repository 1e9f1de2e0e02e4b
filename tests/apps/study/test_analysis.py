"""The analysis of a reader study against other implementations, known readers and hand counts."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from reader_studies import PAPER, paper_plan, small_study
from scipy.stats import binomtest, norm
from sklearn.metrics import cohen_kappa_score, roc_auc_score, roc_curve

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.study import app
from causalcxr.apps.study import analysis, report
from causalcxr.apps.study.analysis import analyse, analyse_responses
from causalcxr.apps.study.answers import AnswerFile, ReaderAnswer
from causalcxr.apps.study.claims import claims, limits
from causalcxr.apps.study.detection import detection, roc
from causalcxr.apps.study.report import page, write_report
from causalcxr.apps.study.report_plots import figures as draw_figures
from causalcxr.apps.study.responses import responses
from causalcxr.apps.study.share_tests import against_chance, detectable, paired_difference
from causalcxr.apps.study.simulate import Simulated, simulate
from causalcxr.common.errors import StudyError

# Shares


@pytest.mark.parametrize("n", [1, 7, 50, 100, 2000])
def test_chance_test_matches_scipy(n):
    for k in {0, 1, n // 3, n // 2, n - 1, n}:
        assert against_chance(k, n) == pytest.approx(binomtest(k, n).pvalue, abs=1e-12)
    assert np.isnan(against_chance(0, 0))


def test_paired_test_matches_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 100)) < np.array([[0.5], [0.62]])
    found = paired_difference(first, second)
    counts = pd.crosstab(first, second).to_numpy()
    assert found.p == pytest.approx(tables.mcnemar(counts, exact=True).pvalue, abs=1e-12)
    assert (found.lost, found.gained) == (counts[0, 1], counts[1, 0])[::-1]
    assert found.value == pytest.approx(second.mean() - first.mean())


def test_paired_interval_covers_the_difference():
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(600):
        hard = rng.random(100)
        first, second = (rng.random(100) < a + 0.3 * (hard - 0.5) for a in (0.5, 0.6))
        found = paired_difference(first, second)
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.98
    same = paired_difference(np.ones(50), np.ones(50))
    assert (same.value, same.p) == (0.0, 1.0)
    assert same.low < 0 < same.high


@pytest.mark.parametrize("n", [20, 50, 100, 200])
def test_detectable_accuracy_has_the_power(n):
    refused = np.array([binomtest(k, n).pvalue <= 0.05 for k in range(n + 1)])
    least = detectable(n)
    law = [binom_pmf(n, a) for a in (least, least - 0.01)]
    powers = [float((pmf * refused).sum()) for pmf in law]
    assert powers[0] >= 0.8 > powers[1]
    assert np.isnan(detectable(3))


def binom_pmf(n, p):
    from scipy.stats import binom

    return binom.pmf(np.arange(n + 1), n, p)


# Detection


@pytest.mark.parametrize("seed", range(8))
def test_roc_matches_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    signal = rng.permutation(np.arange(60) < 25)
    score = rng.integers(1, 6, 60) * np.where(rng.random(60) < 0.4 + 0.3 * signal, 1, -1)
    found = roc(signal, score, draws=500)
    false_alarms, hits, _ = roc_curve(signal, score, drop_intermediate=False)
    assert found.area == pytest.approx(roc_auc_score(signal, score), abs=1e-12)
    assert found.false_alarms == pytest.approx(false_alarms, abs=1e-12)
    assert found.hits == pytest.approx(hits, abs=1e-12)
    assert found.low < found.area < found.high
    assert np.isnan(roc(np.ones(5), np.arange(5)).area)


def test_detection_recovers_d_prime_and_criterion():
    rng = np.random.default_rng(0)
    n = 200_000
    signal = rng.random(n) < 0.5
    evidence = rng.standard_normal(n) + 1.2 * signal
    one = detection(signal, evidence > 0.9)
    assert one.d_prime == pytest.approx(1.2, abs=0.02)
    assert one.criterion == pytest.approx(0.9 - 0.6, abs=0.01)
    assert one.sensitivity == pytest.approx(norm.sf(-0.3), abs=0.005)
    assert one.specificity == pytest.approx(norm.cdf(0.9), abs=0.005)
    left, right = rng.standard_normal((2, n))
    two = detection(signal, left + 1.2 * signal > right + 1.2 * ~signal, two=True)
    assert two.d_prime == pytest.approx(1.2, abs=0.02)
    assert two.criterion == pytest.approx(0, abs=0.01)
    perfect = detection(np.array([1, 1, 0, 0]), np.array([1, 1, 0, 0]))
    assert 0 < perfect.d_prime < 3
    assert perfect.criterion == pytest.approx(0)


# Simulated readers


def test_simulated_readers_have_their_accuracy_and_kappa(monkeypatch):
    for name in ("_DRAWS", "_SHUFFLES"):  # of intervals and tests that are not used here
        monkeypatch.setattr(analysis, name, 100)
    plan = paper_plan(trials=2000)
    readers = [
        Simulated((0.49, 0.54), 0.42),
        Simulated((0.8, 0.85), 0.6, shared=0.3, awareness=0.9),
        Simulated((0.8, 0.75), 0.5, shared=0.3, awareness=0.0),
    ]
    found = analyse_responses(plan, responses(plan, simulate(plan, readers, seed=1)))
    expected = [a for reader in readers for a in reader.accuracy]
    assert found.accuracy["accuracy"].tolist() == pytest.approx(expected, abs=0.03)
    intra = found.agreement[found.agreement["kind"] == "intra"]
    assert intra["kappa"].tolist() == pytest.approx([0.42, 0.6, 0.5], abs=0.05)
    # What is hard for all makes two readers agree more than their accuracies alone would.
    shared = found.agreement.query("first == 'B' and second == 'C'")["kappa"]
    assert (shared > (2 * 0.8 - 1) * (2 * 0.75 - 1) + 0.1).all()
    aware, unaware = found.detection.query("reader in ['B', 'C']").groupby("reader")["auroc"]
    assert aware[1].min() > 0.85
    assert unaware[1].max() < 0.83
    right = found.responses.groupby(["reader", "correct"])["confidence"].mean().unstack()
    assert right.loc["B", True] - right.loc["B", False] > 0.8
    assert abs(right.loc["C", True] - right.loc["C", False]) < 0.15


def test_impossible_readers_are_refused():
    plan = paper_plan(trials=10, names=("A",))
    for reader, message in (
        (Simulated((0.5,)), "give one per presentation"),
        (Simulated((0.5, 1.5)), "from 0 to 1"),
        (Simulated((0.1, 0.9), 0.5), "allow .* to"),
    ):
        with pytest.raises(StudyError, match=message):
            simulate(plan, [reader])
    with pytest.raises(StudyError, match="2 simulated readers for 1 in the plan"):
        simulate(plan, [Simulated((0.5, 0.5))] * 2)


# The whole


@pytest.fixture(scope="module")
def paper():
    strata = [{"View": view} for view in ("AP", "PA", "LATERAL")]
    plan = paper_plan(strata=strata, names=("Ada $x$", "<b>Ben</b>", "C, Ltd"))
    return analyse_responses(plan, responses(plan, simulate(plan, PAPER, seed=1)))


def test_responses_hold_truth_and_answer(tmp_path):
    plan = small_study(tmp_path / "s", trials=6, readers=1)
    reader = plan.readers[0]
    file = AnswerFile(tmp_path / "s", plan, 0)
    for step in range(7):
        file.record(ReaderAnswer(step, step % 2, 1 + step % 5, 1000.0 * step))
    table = analyse(tmp_path / "s").responses
    for step, row in enumerate(table.to_dict("records")):
        shown = plan.shown(reader, step)
        trial = plan.trials[row["trial"] - 1]
        left = trial.images.index(shown.images[0])
        assert row["record"] == trial.records[left]
        assert row["truth"] == ("first" if row["record"].startswith("1-") else "second")
        assert row["answer"] == ("first", "second")[step % 2]
        assert row["correct"] == (row["truth"] == row["answer"])
        chosen = shown.images[step % 2]
        assert row["label"] == "ab"[trial.images.index(chosen)]
        assert row["score"] == (1 + step % 5) * (-1 if step % 2 else 1)
        assert (row["presentation"], row["position"]) == (1 + step // 6, 1 + step % 6)
        assert row["seconds"] == step
        assert row["stratum"] == trial.strata["View"]


def test_tables_count_the_responses(paper):
    table = paper.responses
    assert len(table) == paper.expected == 600
    for row in paper.accuracy.to_dict("records"):
        asked = (table["reader"] == row["reader"]) & (table["presentation"] == row["presentation"])
        mine = table[asked]
        assert row["right"] == mine["correct"].sum()
        test = binomtest(row["right"], 100)
        assert row["p"] == pytest.approx(test.pvalue)
        exact, score = (test.proportion_ci(0.95, name) for name in ("exact", "wilson"))
        assert (row["exact_low"], row["exact_high"]) == pytest.approx(tuple(exact), abs=1e-10)
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(tuple(score), abs=1e-10)
        assert row["seconds_median"] == mine["seconds"].median()
        assert row["exact_low"] <= row["wilson_low"] < row["accuracy"] < row["wilson_high"]
    wide = table.pivot(index="trial", columns=["reader", "presentation"], values="label")
    for row in paper.agreement.query("kind == 'intra'").to_dict("records"):
        expected = cohen_kappa_score(wide[row["first"], 1], wide[row["first"], 2])
        assert row["kappa"] == pytest.approx(expected, abs=1e-12)
    assert (paper.agreement["kind"] == "inter").sum() == 6
    assert paper.strata["n"].sum() == 600
    assert paper.strata["right"].sum() == table["correct"].sum()
    change = paper.accuracy.pivot(index="reader", columns="presentation", values="accuracy")
    learned = paper.learning.set_index("reader")["difference"]
    assert (change[2] - change[1]).to_dict() == pytest.approx(learned.to_dict())
    assert (paper.detection["signals"] == 50).all()


def test_trend_is_detected_only_in_a_tiring_reader(paper):
    plan = paper_plan(names=("A",))
    given = simulate(plan, [Simulated((0.5, 0.5), 0.0)], seed=0)[0]
    tired = [
        ReaderAnswer(a.step, int(plan.correct(plan.shown(plan.readers[0], a.step), 1)), 3, 1.0)
        if a.step % 100 < 50
        else a
        for a in given
    ]
    trend = analyse_responses(plan, responses(plan, {0: tired})).trend
    assert (trend["per_100_trials"] < -0.4).all()
    assert (trend["p"] < 0.001).all()
    assert paper.trend["p"].min() > 0.01


def test_report_escapes_names_and_is_self_contained(paper, tmp_path):
    file = write_report(paper, tmp_path / "out")
    html = file.read_text()
    assert "<b>Ben</b>" not in html
    assert "&lt;b&gt;Ben&lt;/b&gt;" in html
    assert html.count("data:image/svg+xml;base64,") == 4
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    assert "<script" not in html
    assert all(reader.token not in html for reader in paper.plan.readers)
    assert page(paper) == html
    for name, table in paper.tables.items():
        text = (tmp_path / "out" / f"{name}.csv").read_text()
        again = pd.read_csv(io.StringIO(text), keep_default_na=False)
        assert len(again) == len(table)
        assert list(again.columns) == list(table.columns)
        assert all(reader.token not in text for reader in paper.plan.readers)
    accuracy = pd.read_csv(tmp_path / "out" / "accuracy.csv")
    assert accuracy["accuracy"].tolist() == paper.accuracy["accuracy"].tolist()


def test_claims_at_chance_are_cautious(paper):
    told = " ".join(claims(paper))
    assert "The study is complete: 100 trials, twice, by 3 readers, 600 answers." in told
    assert "In none of 6 sittings does it differ from chance" in told
    assert "does not show that it is chance" in told
    assert "detects an accuracy of 0.65 or more in four studies out of five" in " ".join(
        limits(paper)
    )


def test_claims_name_the_reader_above_chance():
    plan = paper_plan(names=("Eve", "Bob"))
    readers = [Simulated((0.9, 0.95), 0.8), Simulated((0.5, 0.5), 0.2)]
    told = " ".join(
        claims(analyse_responses(plan, responses(plan, simulate(plan, readers, seed=3))))
    )
    assert "It differs from chance in 2 of 4 sittings" in told
    assert "Eve, presentation 1 (0." in told
    assert "Bob" not in told


def test_report_of_an_unfinished_study_says_so(tmp_path, capsys):
    folder = tmp_path / "s"
    plan = small_study(folder, trials=8, readers=["Ada", "Ben"], kind="single")
    assert guarded(app, ["analyse", str(folder)]) == 2
    assert "the study has no answers yet" in capsys.readouterr().err
    file = AnswerFile(folder, plan, 1)
    for step in range(9):
        file.record(ReaderAnswer(step, 0, 2, 900.0))
    assert guarded(app, ["analyse", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out == f"{folder}/analysis/report.html: 9 of 32 answers\n"
    html = (folder / "analysis" / "report.html").read_text()
    assert "The study is not complete: 9 of 32 answers" in html
    found = analyse(folder)
    assert found.learning["n"].tolist() == [1]
    assert found.agreement["kappa"].isna().all()
    assert found.accuracy["right"].iloc[0] == 4
    first = found.detection.iloc[0]
    assert (first["sensitivity"], first["specificity"]) == (0.0, 1.0)
    assert first["criterion"] > 1


def test_own_analysis_is_replaced_and_others_need_overwrite(tmp_path, capsys, monkeypatch):
    names = ("accuracy", "order", "roc", "agreement")
    monkeypatch.setattr(report, "figures", lambda result: dict.fromkeys(names, b""))
    folder, other = tmp_path / "s", tmp_path / "other"
    plan = small_study(folder, trials=8, readers=["Ada", "Ben"], kind="single")
    file = AnswerFile(folder, plan, 1)
    for step in range(4):
        file.record(ReaderAnswer(step, 0, 2, 900.0))
    assert set(draw_figures(analyse(folder))) == {"accuracy", "order", "roc"}  # one reader so far
    elsewhere = ["analyse", str(folder), "--out", str(other)]
    for words in (["analyse", str(folder)], elsewhere):
        assert guarded(app, words) == 0
    file.record(ReaderAnswer(4, 0, 2, 900.0))
    assert guarded(app, ["analyse", str(folder)]) == 0
    assert "5 of 32 answers" in (folder / "analysis" / "report.html").read_text()
    capsys.readouterr()
    assert guarded(app, elsewhere) == 2
    assert "holds an analysis already" in capsys.readouterr().err
    assert "4 of 32 answers" in (other / "report.html").read_text()
    assert guarded(app, [*elsewhere, "--overwrite"]) == 0
    assert "5 of 32 answers" in (other / "report.html").read_text()
    assert len(pd.read_csv(other / "responses.csv")) == 5
    assert guarded(app, ["analyse", str(folder), "--out", str(folder), "--overwrite"]) == 2
    assert "holds something else than an analysis" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
