"""The report of a cohort tells rows in and out, why, prevalences and what is missing."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from published import MAKERS

from causalcxr import sources
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.sources.harmonised import Harmonised, Rule, combined
from causalcxr.sources.policy import Policy
from causalcxr.sources.report import facts, write_report


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    policy = Policy(laterals="drop")
    return [
        sources.harmonise(MAKERS[name](folder / name), policy)
        for name in ("mimic", "brax", "padchest")
    ]


def test_every_dropped_row_has_a_rule(parts):
    report = facts(combined(parts), parts)
    assert (report["rows_in"], report["rows_out"]) == (19, 15)
    for each in report["sources"]:
        dropped = sum(r["rows"] for r in each["rules"] if r["effect"] == "dropped")
        assert each["rows_in"] == each["rows_out"] + dropped
        assert each["policy"]["laterals"] == "drop"
    names = {rule["name"] for rule in report["sources"][0]["rules"]}
    assert {"race-conflict", "view-guessed", "lateral-dropped", "labels-uncertain"} <= names


def test_counts_are_those_of_the_table(parts):
    rows = combined(parts)
    report = facts(rows, parts)
    for group in ("all", "Dataset", "Sex", "Race", "View", "Age"):
        for name in ("Edema", "Fracture"):
            cells = [cell[name] for cell in report["prevalence"][group].values()]
            for level in "PNU":
                count = int((rows.table[name] == level).sum())
                assert sum(cell[level] for cell in cells) == count
            assert sum(sum(cell[k] for k in ("P", "N", "U", "missing")) for cell in cells) == 15
    brax = report["prevalence"]["Dataset"]["BRAX"]["Fracture"]
    assert (brax["P"], brax["N"], brax["share"]) == (0, 1, 0.0)
    assert report["missing"]["PadChest"]["Race"] == 1.0
    assert report["missing"]["BRAX"]["Age"] == pytest.approx(1 / 3)
    assert sum(map(sum, report["ages"].values())) == rows.table["Age"].notna().sum()


def test_report_is_self_contained(parts, tmp_path):
    page = write_report(combined(parts), tmp_path / "report", parts, {"truncated": 3})
    html = page.read_text()
    assert page.name == "report.html"
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
    assert len(re.findall(r'src="data:image/png;base64,', html)) == 3
    for word in ("race-conflict", "truncated", "dropped"):
        assert word in html
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report == json.loads(json.dumps(facts(combined(parts), parts, {"truncated": 3})))
    assert sorted(p.name for p in page.parent.iterdir()) == ["report.html", "report.json"]


def test_scripts_in_data_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    table = pd.DataFrame({"Dataset": [evil], "Edema": ["P"]}, index=[evil])
    rules = (Rule("x", f"a word such as {evil}", 1, (evil,)),)
    one = Harmonised(table, np.array(["p"]), None, [None], rules, evil, evil, {"labels": evil})
    html = write_report(one, tmp_path).read_text()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4


def test_empty_cohort_has_a_report(tmp_path):
    table = pd.DataFrame({"Age": np.empty(0), "Edema": np.empty(0, dtype=object)})
    none = Harmonised(table, np.empty(0, object), None, [], (), "nothing")
    assert write_report(none, tmp_path).is_file()
    assert facts(none)["rows_out"] == 0


def test_command_writes_a_report(tmp_path, capsys):
    folder, out = MAKERS["brax"](tmp_path / "brax"), tmp_path / "out"
    words = ["cohort", "report", str(folder), "--out", str(out)]
    assert guarded(app, [*words, "--decide", "laterals=drop"]) == 0
    assert "5 rows in, 3 rows out" in capsys.readouterr().out
    assert json.loads((out / "report.json").read_text())["rows_out"] == 3
    assert guarded(app, [*words, "--decide", "laterals=keeep"]) == 2
    assert "did you mean 'keep'?" in capsys.readouterr().err


def test_another_report_requires_overwrite(tmp_path, capsys):
    folder, out = MAKERS["brax"](tmp_path / "brax"), tmp_path / "out"
    words = ["cohort", "report", str(folder), "--out", str(out)]
    assert guarded(app, [*words, "--decide", "laterals=drop"]) == 0
    (out / "manifest.json").unlink()  # as version 0.1.0 left it
    (out / "SHA256SUMS").unlink()
    assert guarded(app, words) == 2
    assert "holds a cohort report already" in capsys.readouterr().err
    assert json.loads((out / "report.json").read_text())["rows_out"] == 3
    assert guarded(app, [*words, "--overwrite"]) == 0
    assert json.loads((out / "report.json").read_text())["rows_out"] == 5
    assert guarded(app, words) == 0
    assert "complete already" in capsys.readouterr().err
    assert guarded(app, [*words, "--out", str(folder), "--overwrite"]) == 2
    assert "holds something else than a cohort report" in capsys.readouterr().err
