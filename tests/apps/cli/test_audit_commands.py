"""The audit on the command line, from a model to pages; and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from audit_worlds import GRAPH, TABULAR, as_men, people

from causalcxr import SCM, Cohort, do
from causalcxr.apps.cli.classifier import load_classifier
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.cli.stress import StressOptions
from causalcxr.audit.pairs import Pairs
from causalcxr.common.errors import AuditError, ClassifierError

CLASSIFIER = """
import numpy as np
def grey(x):
    return x[:, 0, 4:].mean((1, 2))
def odds(x):
    return 9 * grey(x) - 4
number = 3
class Sexist:
    classes_ = (0, 1)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    (folder / "mine.py").write_text(CLASSIFIER, encoding="utf-8")
    cohort = people(120, seed=1)
    Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), do(sex="M"), null=cohort).save(
        folder / "pairs"
    )
    SCM(TABULAR).fit(people(400, seed=2).with_images(None)).save(folder / "model")
    people(200, seed=3).with_images(None).save(folder / "cohort")
    return folder


def run(capsys, *words) -> tuple[int, str]:
    status = guarded(app, [str(word) for word in words], name="causalcxr")
    told = capsys.readouterr()
    return status, told.out + told.err


def test_audit_writes_the_report_and_every_table(place, capsys):
    out = place / "out"
    status, told = run(
        capsys, "audit", place / "pairs", f"{place / 'mine.py'}:grey", "--label", "edema",
        "--by", "sex", "--by", "view", "--bootstrap", 50, "--out", out,
    )  # fmt: skip
    assert status == 0, told
    assert "its score changed by +0.200 on average" in told
    found = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert found["about"]["classifier"] == "grey"
    assert found["effects"][0]["mean"] == pytest.approx(0.2, abs=1e-4)
    assert (out / "report.html").stat().st_size > 10_000
    records = pd.read_csv(out / "records.csv")
    assert len(records) == 120
    status, _ = run(
        capsys, "audit", place / "pairs", f"{place / 'mine.py'}:odds", "--outputs", "logit",
        "--bootstrap", 20, "--out", out, "--overwrite",
    )  # fmt: skip
    assert status == 0


def test_scores_in_a_file_are_audited_like_a_function(place, capsys):
    pairs = Pairs.load(place / "pairs")
    rows = [
        pd.DataFrame({"record": c.index, "world": w, "score": c.images[:][:, 0, 4:].mean((1, 2))})
        for w, c in pairs.worlds.items()
    ]
    pd.concat(rows).to_csv(place / "scores.csv", index=False)
    status, told = run(
        capsys, "audit", place / "pairs", place / "scores.csv", "--label", "edema",
        "--bootstrap", 20, "--out", place / "scored",
    )  # fmt: skip
    assert status == 0, told
    found = json.loads((place / "scored" / "audit.json").read_text(encoding="utf-8"))
    assert found["effects"][0]["mean"] == pytest.approx(0.2, abs=1e-4)


def test_pairs_are_made_checked_and_counted(place, capsys):
    out = place / "made"
    status, told = run(
        capsys, "pairs", place / "model", place / "cohort", "--do", "sex=M", "--draws", 2,
        "--out", out,
    )  # fmt: skip
    assert status == 0, told
    assert "rejected: unchanged" in told
    made = Pairs.load(out)
    assert len(made) == 400
    assert made.valid.sum() == 2 * (people(200, seed=3).table["Sex"] == "F").sum()


def test_stress_writes_tables_and_a_figure(place, capsys):
    cohort = people(200, seed=3)
    rng = np.random.default_rng(0)
    scores = np.clip((cohort.table["Edema"] == "P") * 0.4 + rng.random(200) * 0.6, 0, 1)
    scores.rename("score").rename_axis("record").to_csv(place / "s.csv")
    status, told = run(
        capsys, "stress", place / "model", place / "cohort", place / "s.csv", "--label", "edema",
        "--share", "Edema=P:.6", "--share", "Sex=F:.9", "--search", "sex", "--bootstrap", 20,
        "--out", place / "stressed",
    )  # fmt: skip
    assert status == 0, told
    found = json.loads((place / "stressed" / "stress.json").read_text(encoding="utf-8"))
    assert {row["shift"] for row in found["shifts"]} == {"Edema=P:.6", "Sex=F:.9"}
    assert (place / "stressed" / "stress.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit", "{}/nowhere", "{}/mine.py:grey"], "holds no complete pairs"),
        (["audit", "{}/pairs", "{}/mine.py:gray"], "mine.py has no 'gray'"),
        (["audit", "{}/pairs", "{}/mine.py:number"], "int is not a classifier"),
        (["audit", "{}/pairs", "{}/mine.py:odds"], "outputs='logit'"),
        (["audit", "{}/pairs", "grey"], "write FILE.csv, or MODULE:NAME"),
        (["audit", "{}/pairs", "no_module_of_that_name:grey"], "cannot be imported"),
        (["audit", "{}/pairs", "{}/none.py:grey"], "no file"),
        (["audit", "{}/pairs", "{}/none.csv"], "none.csv"),
        (["audit", "{}/pairs", "{}/mine.py:grey", "--label", "edma"], "did you mean 'Edema'"),
        (["audit", "{}/pairs", "{}/mine.py:grey", "--threshold", "youdn"], "youden"),
        (["pairs", "{}/model", "{}/cohort"], "nothing to do; give --do"),
        (["pairs", "{}/model", "{}/cohort", "--do", "sex=X"], "X"),
    ],
)
def test_invalid_options_give_one_line_and_no_files(place, capsys, tmp_path, words, message):
    out = tmp_path / "out"
    status, told = run(capsys, *(word.format(place) for word in words), "--out", out)
    assert status == 2
    assert message in told
    assert len(told.strip().splitlines()) == 1
    assert not out.exists()


def test_a_folder_of_something_else_is_left_unchanged(place, capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    status, told = run(
        capsys, "audit", place / "pairs", f"{place / 'mine.py'}:grey", "--bootstrap", 20,
        "--out", tmp_path,
    )  # fmt: skip
    assert status == 2
    assert "holds something else than an audit" in told
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_malformed_options_are_named(place):
    words = {"model": place / "model", "cohort": "", "classifier": "", "label": "", "out": place}
    with pytest.raises(AuditError, match=r"share 'Sex=F': write NAME=LEVEL:SHARE"):
        StressOptions(**words, share=["Sex=F"]).shifts(GRAPH)
    with pytest.raises(AuditError, match="dose 'age=a,b': write NAME=V,V"):
        StressOptions(**words, dose="age=a,b").doses()
    with pytest.raises(ClassifierError, match=r"write FILE.csv"):
        load_classifier(":x")


def test_hostile_values_are_harmless_and_patients_are_not_shown(place, capsys, tmp_path):
    cohort = people(40, seed=1)
    wards = np.where(np.arange(40) % 2, "=HYPERLINK(1)", "<script>alert(1)</script>")
    names = [f"Jane Doe {k}" for k in range(40)]
    table = cohort.table.assign(Ward=wards).set_axis(pd.Index(names, name="record"))
    hostile = Cohort(table, cohort.images[:])
    Pairs.from_cohorts(GRAPH, hostile, as_men(hostile), do(sex="M"), null=hostile).save(
        tmp_path / "p"
    )
    status, told = run(
        capsys, "audit", tmp_path / "p", f"{place / 'mine.py'}:grey", "--label", "edema",
        "--by", "Ward", "--bootstrap", 20, "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, told
    assert "Jane Doe" not in told
    for file in (tmp_path / "out").glob("*.csv"):
        for cell in file.read_text(encoding="utf-8").replace("\n", ",").split(","):
            assert not cell.strip('"').startswith(("=", "@")), file.name
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "Jane Doe" not in (tmp_path / "out" / "audit.json").read_text(encoding="utf-8")
