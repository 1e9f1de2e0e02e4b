"""What each edit makes stale: exactly that is learned again, and everybody tells the same why."""

import json

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, Variable
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.graph import app
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, pack_tensors
from causalcxr.scm import fitting
from causalcxr.scm.fitting import learned_again, stale_reason
from causalcxr.scm.training_data import TrainingData

QUICK = {"kind": "discrete", "epochs": 1}
GRAPH = Graph(
    [
        Variable(
            "Age",
            "continuous",
            range=(0, 105),
            resolution=1,
            mechanism={"kind": "flow", "epochs": 1},
        ),
        Variable("Sex", "binary", levels=("F", "M"), mechanism=QUICK),
        Variable("View", "categorical", levels=("AP", "PA"), parents=("Age",), mechanism=QUICK),
        Variable("Edema", "binary", parents=("Age", "Sex"), mechanism=QUICK),
        Variable("Opacity", "binary", parents=("Edema",), mechanism=QUICK),
    ],
    name="small",
)


def changed(name: str, **fields) -> Graph:
    return GRAPH.with_variable(GRAPH[name].replace(**fields))


def renamed() -> Graph:
    """Age is called Years."""
    years = GRAPH["Age"].replace(name="Years")
    graph = GRAPH.with_variable(years)
    for name in ("View", "Edema"):
        graph = graph.add_edge("Years", name)
    return graph.without_variable("Age")


EDITS = {
    "nothing": (GRAPH, {}),
    "rename": (
        renamed(),
        {
            "Years": "it is new",
            "View": "edge Years -> View added; edge Age -> View removed",
            "Edema": "edge Years -> Edema added; edge Age -> Edema removed",
        },
    ),
    "add edge": (GRAPH.add_edge("Sex", "View"), {"View": "edge Sex -> View added"}),
    "remove edge": (GRAPH.remove_edge("Age", "Edema"), {"Edema": "edge Age -> Edema removed"}),
    "range": (
        changed("Age", range=(0, 120)),
        {
            "Age": "range [0, 105] -> [0, 120]",
            "View": "Age: range [0, 105] -> [0, 120]",
            "Edema": "Age: range [0, 105] -> [0, 120]",
        },
    ),
    "level": (
        changed("View", levels=("AP", "PA", "LATERAL")),
        {"View": "levels [AP, PA] -> [AP, PA, LATERAL]"},
    ),
    "level of a parent": (
        changed("Edema", levels=("P", "N")),
        {"Edema": "levels [N, P] -> [P, N]", "Opacity": "Edema: levels [N, P] -> [P, N]"},
    ),
    "training": (
        changed("Sex", mechanism=QUICK | {"epochs": 2}),
        {"Sex": "mechanism epochs 1 -> 2"},
    ),
    "description": (changed("Sex", description="as recorded"), {}),
    "new variable": (
        GRAPH.with_variable(Variable("Race", "binary", mechanism=QUICK)),
        {"Race": "it is new"},
    ),
    "gone": (GRAPH.without_variable("Edema"), {"Opacity": "edge Edema -> Opacity removed"}),
}


def table(n: int = 200) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = {
        "Age": random.integers(20, 90, n).astype(float),
        "Sex": random.choice(["F", "M"], n),
        "View": random.choice(["AP", "PA"], n),
        "Edema": random.choice(["N", "P"], n),
        "Opacity": random.choice(["N", "P"], n),
        "Race": random.choice(["N", "P"], n),
        "Site": random.choice(["here", "there"], n),
    }
    return pd.DataFrame(frame).assign(Years=lambda t: t["Age"])


@pytest.fixture(scope="module")
def model() -> SCM:
    return SCM(GRAPH).fit(Cohort(table()))


def diff_lines(capsys, before, after) -> dict[str, str]:
    """What `causalcxr graph diff` says, per equation to be trained."""
    assert guarded(app, ["diff", str(before), str(after)]) == 0
    told = capsys.readouterr().out.splitlines()
    listed = [line.strip() for line in told if line.startswith("  ")]
    apart = "trained on something else: "
    listed += [line.removeprefix(apart) for line in told if line.startswith(apart)]
    return dict(line.split(": ", 1) for line in listed)


# An edit of the graph


@pytest.mark.parametrize("edit", EDITS)
def test_edit_retrains_the_expected_equations_with_reasons(model, edit, tmp_path, capsys):
    graph, expected = EDITS[edit]
    edited = model.with_graph(graph)
    assert set(edited.stale) == set(expected)
    for name in edited.fitted:
        assert stale_reason(edited.fitted[name], graph, name) == expected.get(name, "")
    again = edited.fit(Cohort(table()))
    assert learned_again(edited.fitted, again.fitted) == expected
    assert again.stale == {}
    before, after = GRAPH.save(tmp_path / "a.yaml"), graph.save(tmp_path / "b.yaml")
    assert diff_lines(capsys, before, after) == expected
    assert {name: "; ".join(why) for name, why in GRAPH.diff(graph).reasons.items()} == expected
    saved = [model.save(tmp_path / "one"), again.save(tmp_path / "two")]
    assert diff_lines(capsys, *saved) == expected


def test_two_edits_give_each_equation_its_reason(model):
    graph = GRAPH.add_edge("Sex", "View").with_variable(
        GRAPH["View"].replace(parents=("Age", "Sex"), levels=("PA", "AP"))
    )
    again = model.with_graph(graph).fit(Cohort(table()), seed=1)
    told = learned_again(model.fitted, again.fitted)
    assert told["View"] == "edge Sex -> View added; levels [AP, PA] -> [PA, AP]; seed 0 -> 1"
    assert told["Opacity"] == "seed 0 -> 1"


# An edit of the data, the seed or the package


def shuffled(*names: str) -> pd.DataFrame:
    frame = table()
    return frame.assign(**{name: frame[name].to_numpy()[::-1] for name in names})


COLUMNS = {
    "Site": {},
    "Race": {},
    "Opacity": {"Opacity"},
    "Edema": {"Edema", "Opacity"},
    "Age": {"Age", "View", "Edema"},
}


@pytest.mark.parametrize("column", COLUMNS)
def test_changed_column_retrains_it_and_its_children(model, column, tmp_path, capsys):
    again = model.fit(Cohort(shuffled(column)))
    expected = dict.fromkeys(COLUMNS[column], f"data of {column} changed")
    assert learned_again(model.fitted, again.fitted) == expected
    saved = [model.save(tmp_path / "one"), again.save(tmp_path / "two")]
    assert diff_lines(capsys, *saved) == expected


def test_another_seed_retrains_every_equation(model):
    again = model.fit(Cohort(table()), seed=3)
    assert learned_again(model.fitted, again.fitted) == dict.fromkeys(GRAPH.tabular, "seed 0 -> 3")


def test_more_records_retrain_every_equation(model):
    again = model.fit(Cohort(table().iloc[:-20]))
    why = "the training records changed"
    assert learned_again(model.fitted, again.fitted) == dict.fromkeys(GRAPH.tabular, why)


def test_changed_test_split_retrains_nothing():
    splits = np.array(["train"] * 150 + ["test"] * 50)
    model = SCM(GRAPH).fit(Cohort(table(), splits=splits))
    other = table()
    other.loc[150:, "Sex"] = "F"
    again = model.fit(Cohort(other, splits=splits))
    assert learned_again(model.fitted, again.fitted) == {}


def test_new_revision_retrains_every_equation(model, monkeypatch):
    monkeypatch.setattr(fitting, "REVISION", fitting.REVISION + 1)
    told = learned_again(model.fitted, model.fit(Cohort(table())).fitted)
    assert told == dict.fromkeys(
        GRAPH.tabular, f"revision {fitting.REVISION - 1} -> {fitting.REVISION}"
    )


def test_changed_default_retrains_equations_that_use_it(model, monkeypatch):
    kind = type(model.fitted["Sex"].mechanism)
    monkeypatch.setattr(kind, "defaults", {**kind.defaults, "hidden": 8})
    told = learned_again(model.fitted, model.fit(Cohort(table())).fitted)
    discrete = ("Sex", "View", "Edema", "Opacity")
    assert told == dict.fromkeys(discrete, "default of mechanism hidden 32 -> 8")


def test_new_option_retrains_nothing(model, monkeypatch):
    kind = type(model.fitted["Sex"].mechanism)
    monkeypatch.setattr(kind, "defaults", {**kind.defaults, "wisdom": 1})
    assert learned_again(model.fitted, model.fit(Cohort(table())).fitted) == {}


# On disk


def test_saved_model_keeps_its_reasons_and_is_not_retrained(model, tmp_path):
    loaded = SCM.load(model.save(tmp_path / "model"))
    assert {f.reason for f in loaded.fitted.values()} == {"it is new"}
    assert loaded.fitted["View"].recipe == model.fitted["View"].recipe
    assert learned_again(loaded.fitted, loaded.fit(Cohort(table())).fitted) == {}
    again = loaded.with_graph(GRAPH.add_edge("Sex", "View")).fit(Cohort(table()))
    assert learned_again(loaded.fitted, again.fitted) == {"View": "edge Sex -> View added"}


def test_model_saved_without_recipes_is_kept(model, tmp_path, capsys):
    old, new = model.save(tmp_path / "old"), model.save(tmp_path / "new")
    manifest = json.loads((old / "manifest.json").read_text())
    for name, entry in manifest["mechanisms"].items():
        known = model.fitted[name]
        prints = [TrainingData.from_cohort(Cohort(table()), GRAPH).fingerprint(columns(name))]
        content = [known.equation, known.seed, fitting.REVISION, "", *prints]
        entry["hash"] = fitting._hash(content, {})  # options did not enter then
        del entry["reason"], entry["recipe"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    before = (old / "manifest.json").read_bytes()
    loaded = SCM.load(old)
    assert loaded.fit(Cohort(table())).fitted == loaded.fitted
    edited = loaded.with_graph(GRAPH.add_edge("Sex", "View"))
    told = learned_again(edited.fitted, edited.fit(Cohort(table()), seed=2).fitted)
    untold = "its declaration or its parents changed since it was fitted"
    assert told["View"] == f"{untold}; seed 0 -> 2"
    assert told["Sex"] == "seed 0 -> 2"
    shuffled_ = learned_again(loaded.fitted, loaded.fit(Cohort(shuffled("Opacity"))).fitted)
    assert shuffled_ == {"Opacity": "its data or the package changed since it was fitted"}
    said = diff_lines(capsys, old, new)
    assert set(said) == set(GRAPH.tabular)
    assert "saved before" in said["Sex"]
    assert (old / "manifest.json").read_bytes() == before


def columns(name: str) -> list[str]:
    return [name, *GRAPH.parents(name)]


@pytest.mark.parametrize("damage", ['{"kind": "causalcxr model"}', "{", '{"kind": 1}'])
def test_damaged_model_gives_one_line_and_status_2(model, damage, tmp_path, capsys):
    folder = model.save(tmp_path / "model")
    (folder / "manifest.json").write_text(damage)
    assert guarded(app, ["diff", str(folder), str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "manifest.json" in err


def test_older_revision_of_equations_is_reported(model, tmp_path):
    folder = model.save(tmp_path / "old")
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["mechanisms"]["View"]
    entry["recipe"]["revision"] = 1
    path = folder / "mechanisms" / entry["file"]
    tensors, _ = load_tensors(path)
    tensors.pop("conditioner.deeper.weight")
    path.write_bytes(pack_tensors(tensors, {}))
    entry["sha256"] = file_digest(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    told = f"'View' .learned by revision 1 of the equations, this version has {fitting.REVISION}"
    with pytest.raises(ModelError, match=told):
        SCM.load(folder)
