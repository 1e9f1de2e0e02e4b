"""The questions on the command line: what they answer, where it goes, what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalcxr import SCM, Cohort, do
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app

KITE = """
name: kite
variables:
  Age: {type: continuous, unit: year, mechanism: empirical}
  Sex: {type: binary, levels: [F, M]}
  Edema: {type: binary, parents: [Sex]}
  Opacity: {type: binary, parents: [Sex, Edema]}
  Devices: {type: binary, parents: [Edema, Opacity]}
"""
VERBS = ("effect", "probabilities", "sensitivity", "confounding", "compare")


def run(*words: object) -> int:
    return guarded(app, [str(word) for word in words])


def people(p_edema: dict[str, float]) -> pd.DataFrame:
    """2,000 women and 2,000 men in which every share holds to the last record."""
    parts = []
    for sex, p in p_edema.items():
        ill = np.arange(2000) < 2000 * p
        opacity = np.arange(2000) % 10 < np.where(ill, 8, 2)
        parts.append(
            pd.DataFrame(
                {
                    "Sex": sex,
                    "Edema": np.where(ill, "P", "N"),
                    "Opacity": np.where(opacity, "P", "N"),
                    "Devices": np.where(np.arange(2000) % 7 < 1 + ill + opacity, "P", "N"),
                    "Age": 40.0 + np.arange(2000) % 40,
                }
            )
        )
    return pd.concat(parts, ignore_index=True).rename_axis("record")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a cohort, in which P(Edema) is .2 of women and .5 of men, and two models."""
    folder = tmp_path_factory.mktemp("questions")
    people({"F": 0.2, "M": 0.5}).to_csv(folder / "all.csv")
    people({"F": 0.4, "M": 0.4}).to_csv(folder / "other.csv")
    (folder / "kite.yaml").write_text(KITE)
    (folder / "cut.yaml").write_text(KITE.replace("[Sex, Edema]", "[Edema]"))
    for name in ("kite", "cut"):
        out = folder / name
        assert run("fit", folder / f"{name}.yaml", folder / "all.csv", "--out", out) == 0
    return folder


@pytest.fixture
def asked(folder) -> tuple[Path, Path]:
    return folder / "kite", folder / "all.csv"


def api(folder: Path) -> tuple[SCM, Cohort]:
    cohort = Cohort.load(str(folder / "all.csv"))
    return SCM.load(folder / "kite"), cohort.select("Sex == 'F'")


WOMEN = ("--where", "Sex == 'F'", "--do", "sex=M")


@pytest.mark.slow
def test_check_has_status_1_where_an_equation_fails(asked, folder, tmp_path, capsys):
    assert run("check", *asked, "--split", "all", "--out", tmp_path / "page.png") == 0
    told = capsys.readouterr().out
    assert "0 of 5 equations fail on 4,000 records (all)" in told
    with Image.open(tmp_path / "page.png") as page:
        assert page.size[0] > 500
    out = tmp_path / "tests.csv"
    assert run("check", asked[0], folder / "other.csv", "--split", "all", "--out", out) == 1
    first = capsys.readouterr().out.splitlines()[2]
    assert first.startswith("Edema")
    assert "FAILS: its noise depends on Sex" in first or "its probabilities of P are off" in first
    tests = pd.read_csv(out)
    assert set(tests.loc[tests["failed"], "variable"]) == {"Edema"}


def test_effect_is_the_difference_of_the_distributions(asked, folder, tmp_path, capsys):
    out = tmp_path / "effect.csv"
    assert run("effect", *asked, *WOMEN, "--draws", 20, "--out", out) == 0
    told = capsys.readouterr().out
    assert "total effect of do(Sex=M) against the facts, 40,000 rows" in told
    assert "Edema = P" in told
    assert "Edema = N" not in told
    table = pd.read_csv(out, keep_default_na=False).set_index(["variable", "level"])
    assert table.loc[("Edema", "P"), "change"] == pytest.approx(0.3, abs=0.03)
    # Opacity is .2 without edema and .8 with it, whatever the sex: all of it goes through edema.
    assert table.loc[("Opacity", "P"), "change"] == pytest.approx(0.6 * 0.3, abs=0.03)
    model, women = api(folder)
    same = model.effect(women, do(sex="M"), draws=20).table
    assert np.allclose(table["change"].astype(float), same["change"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("words", "asked_for"),
    [
        (["--direct"], {"kind": "direct"}),
        (["--indirect", "--mediator", "edema"], {"kind": "indirect", "mediators": ["Edema"]}),
        (["--through", "Sex>Edema>Opacity"], {"through": [("Sex", "Edema", "Opacity")]}),
        (["--through", "sex > edema > ..."], {"through": [("Sex", "Edema", ...)]}),
        (["--baseline", "sex=F", "--seed", "3"], {"baseline": do(sex="F"), "seed": 3}),
    ],
)
def test_each_kind_of_effect_equals_the_api(asked, folder, tmp_path, words, asked_for):
    out = tmp_path / "effect"
    assert run("effect", *asked, *WOMEN, *words, "--out", out) == 0
    model, women = api(folder)
    same = model.effect(women, do(sex="M"), **asked_for)
    table = pd.read_csv(out / "effect.csv", keep_default_na=False)
    assert np.allclose(table["change"].astype(float), same.table["change"], rtol=0, atol=1e-12)
    rows = pd.read_csv(out / "record-by-record.csv", index_col="record")
    assert np.array_equal(rows.to_numpy(float), same.differences.to_numpy(), equal_nan=True)
    assert rows.columns.tolist()[:2] == ["Age", "Sex=F"]
    assert (out / "effect.png").read_bytes() == same.plot().png()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["files"] == ["effect.csv", "record-by-record.csv", "effect.png"]
    assert manifest["kind"] == "causalcxr answer"
    told = manifest["asked"]
    assert told["action"]["do"] == {"Sex": "M"}
    assert told["coupling"]["Edema"] == "monotone"
    assert (told["kind"], told["through"]) == (same.about["kind"], same.about["through"])
    assert (told["records"], told["where"]) == (2000, "Sex == 'F'")


def test_recanting_witnesses_are_shown(asked, capsys):
    assert run("effect", *asked, *WOMEN, "--through", "Sex>Edema>...") == 0
    assert "witness" not in capsys.readouterr().out
    words = ["--through", "Sex>Edema>Devices", "--draws", 3]
    assert run("effect", *asked, *WOMEN, *words) == 0
    head, *lines = capsys.readouterr().out.splitlines()[1:]
    assert head.endswith("recanting witness")
    (line,) = (line for line in lines if line.startswith("Devices = P"))
    assert line.split()[-1] == "Edema"
    assert "rests on the form of the equations" in lines[-1]
    assert run("effect", *asked, *WOMEN, "--indirect") == 0
    assert "no joint world of all outcomes" in capsys.readouterr().out


def test_probabilities_equal_the_api(asked, folder, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert run("probabilities", *asked, *WOMEN, "--variable", "edema", "--out", out) == 0
    model, women = api(folder)
    table = pd.read_csv(out, index_col="record")
    same = model.probabilities(women, do(sex="M"), variables=["Edema"]).table
    assert table.columns.tolist() == ["Edema=N", "Edema=P"]
    assert np.allclose(table, same, rtol=0, atol=1e-12)
    well = (women.table["Edema"] == "N").to_numpy()
    assert table.loc[well, "Edema=P"].mean() == pytest.approx(0.375, abs=0.03)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    mean = f"{same['Edema', 'P'].mean():.4f}"
    assert ["Edema", "P", "0.2000", mean, "2,000", "exact", "0.0000"] in rows


def test_sensitivity_equals_the_api(asked, folder, tmp_path, capsys):
    out = tmp_path / "sensitivity"
    words = ["--vary", "one", "--variable", "edema", "--out", out]
    assert run("sensitivity", *asked, *WOMEN, *words) == 0
    told = capsys.readouterr().out
    assert "the bounds of every coupling that keeps the learned distributions" in told
    model, women = api(folder)
    same = model.sensitivity(women, do(sex="M"), vary="one", variables=["Edema"]).table
    table = pd.read_csv(out / "sensitivity.csv", index_col=["variable", "outcome"])
    for column in ("model", "independent", "lower", "upper"):
        assert np.allclose(table[column], same[column], rtol=0, atol=1e-12)
    # Of p = .2 and q = .5, the least that can change is .3, the most .7.
    change = table.loc[("Edema", "change")]
    assert change["lower"] == pytest.approx(0.3, abs=0.03)
    assert change["upper"] == pytest.approx(0.7, abs=0.03)
    with Image.open(out / "sensitivity.png") as page:
        assert page.size[0] > 500


def test_compare_names_the_edit(asked, folder, tmp_path, capsys):
    model, cohort = asked
    out = tmp_path / "compared.csv"
    assert run("compare", model, folder / "cut", cohort, "--do", "sex=M", "--out", out) == 0
    assert "edge Sex -> Opacity removed" in capsys.readouterr().out
    table = pd.read_csv(out, index_col="variable", keep_default_na=False)
    assert table["equation"].tolist() == ["same", "same", "same", "other", "same"]
    assert run("compare", model, model, cohort, "--do", "sex=M") == 0
    assert capsys.readouterr().out.splitlines()[1] == "  equations and twins are the same"


def test_missing_values_are_drawn_and_listed(folder, tmp_path, capsys):
    table = pd.DataFrame(
        {
            "record": ["a", "b"],
            "Sex": ["F", None],
            "Edema": [None, "P"],
            "Opacity": ["P", "P"],
            "Devices": "N",
            "Age": 60,
        }
    )
    table.to_csv(tmp_path / "gaps.csv", index=False)
    words = [folder / "kite", tmp_path / "gaps.csv", "--do", "age=70", "--draws", 500]
    assert run("counterfactual", *words, "--missing", "posterior", "--out", tmp_path / "x") == 0
    assert "1,000 missing values drawn given the observed ones" in capsys.readouterr().out
    twins = pd.read_csv(tmp_path / "x" / "twins.csv", index_col="record")
    assert twins.loc["a", "drawn"].eq("Edema").all()
    assert twins.loc["b", "drawn"].eq("Sex").all()
    assert not twins["Edema (counterfactual)"].isna().any()
    # do(age) changes no finding: what was drawn is on both sides, and is no change.
    assert twins["changed"].str.fullmatch(r"Age 60(\.0)? -> 70(\.0)?").all()
    # Of women with opacity and without devices, edema : none is .2 * .8 * 4/7 : .8 * .2 * 5/7, and
    # of those with edema, women : men is .2 : .5.
    ill = twins.loc["a", "Edema (counterfactual)"].eq("P").mean()
    assert ill == pytest.approx(4 / 9, abs=0.08)
    men = twins.loc["b", "Sex (counterfactual)"].eq("M").mean()
    assert men == pytest.approx(5 / 7, abs=0.08)
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["missing"] == "posterior"
    assert run("counterfactual", *words, "--out", tmp_path / "y") == 0
    kept = pd.read_csv(tmp_path / "y" / "twins.csv", index_col="record")
    assert kept.loc["a", "Edema (counterfactual)"].isna().all()
    assert "drawn" not in kept
    assert run("counterfactual", *words, "--missing", "mean", "--out", tmp_path / "z") == 2
    assert "missing='mean': use 'keep' or 'posterior'" in capsys.readouterr().err


def test_confounding_equals_the_api(asked, folder, tmp_path, capsys):
    out = tmp_path / "confounding"
    words = ("--do", "sex=M", "--baseline", "sex=F", "--between", "sex > edema", "--out", out)
    assert run("confounding", *asked, *words, "--rho", 0.2, "--rho", -0.2) == 0
    told = capsys.readouterr().out
    assert "hidden common causes: total effect of do(Sex=M) against do(Sex=F), 4,000 rows" in told
    assert "rho: the weakest correlation of the noises" in told
    model, _ = api(folder)
    people = Cohort.load(str(folder / "all.csv"))
    same = model.confounding(
        people, do(sex="M"), do(sex="F"), between=("Sex", "Edema"), rho=[-0.2, 0.2]
    )
    table = pd.read_csv(out / "effect-by-correlation.csv", keep_default_na=False)
    assert np.allclose(table["change"].astype(float), same.table["change"], rtol=0, atol=1e-12)
    bounds = pd.read_csv(out / "bounds.csv")
    assert np.allclose(bounds["upper"], same.bounds["upper"], rtol=0, atol=1e-12)
    about = json.loads((out / "manifest.json").read_text())["asked"]
    assert about["between"] == [["Sex", "Edema"]]
    assert about["rho"] == [-0.2, 0.0, 0.2]
    assert (out / "confounding.png").exists()
    assert run("confounding", *asked, "--do", "sex=M", "--between", "age>edema") == 2
    assert "no edge joins them" in capsys.readouterr().err


def test_an_answer_is_replaced_and_another_folder_refused(asked, tmp_path, capsys):
    out = tmp_path / "answer"
    assert run("effect", *asked, *WOMEN, "--out", out) == 0
    words = ("sensitivity", *asked, *WOMEN, "--variable", "edema", "--out", out)
    before = (out / "manifest.json").read_bytes()
    assert run(*words) == 2
    assert "holds an answer already" in capsys.readouterr().err
    assert run("effect", *asked, *WOMEN, "--out", out) == 0
    assert (out / "manifest.json").read_bytes() == before
    assert "complete already, nothing to do" in capsys.readouterr().err
    assert run(*words, "--overwrite") == 0
    assert {p.name for p in out.iterdir()} == {
        "sensitivity.csv", "sensitivity.png", "manifest.json", "SHA256SUMS",
    }  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    capsys.readouterr()
    for place, told in (
        (tmp_path / "mine", "holds something else than an answer"),
        (tmp_path / "x.html", "the format is not known"),
        (tmp_path / "x.png", "this answer has no figure"),
    ):
        words = ["no-model-is-read", asked[1], *WOMEN, "--out", place]
        assert run("probabilities", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_question_without_an_action_is_refused(folder, capsys, verb):
    models = [folder / "kite"] * (2 if verb == "compare" else 1)
    assert run(verb, *models, folder / "all.csv") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {verb}: nothing to do; give --do NAME=VALUE, such as --do sex=M"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--direct", "--indirect"], "--direct and --indirect are two questions"),
        (["--through", "Sex>Age"], "no edge 'Sex' -> 'Age'"),
        (["--through", "Edema"], "has fewer than two names"),
        (["--mediator", "edema"], "needs kind='direct' or 'indirect'"),
        (["--hold", "lungs"], "hold 'lungs'"),
        (["--where", "Age > 200"], "no record is left"),
        (["--draws", 0], "give at least 1"),
    ],
)
def test_an_invalid_effect_gives_one_line_and_no_files(asked, tmp_path, capsys, words, told):
    assert run("effect", *asked, "--do", "sex=M", *words, "--out", tmp_path / "x") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert list(tmp_path.iterdir()) == []
