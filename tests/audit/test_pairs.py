"""Pairs: which are accepted or rejected and why; the saved folder."""

import json

import explorers
import numpy as np
import pandas as pd
import pytest
from audit_worlds import GRAPH, TABULAR, as_men, features, people

from causalcxr import SCM, Cohort, do
from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.auditing import audit_pairs
from causalcxr.audit.classifiers import as_classifier
from causalcxr.audit.making_pairs import make_pairs, make_worlds, write_pairs
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.quality_checks import Gates
from causalcxr.common.errors import AuditError

MEN = do(sex="M")


@pytest.fixture(scope="module")
def reader():
    return AttributeReader.fit(people(600, seed=9), GRAPH, features=features)


@pytest.fixture(scope="module")
def records():
    return people(400, seed=1).with_images(None)


@pytest.fixture(scope="module")
def model(records):
    return SCM(TABULAR).fit(records)


def test_reader_reports_its_quality_on_unseen_patients(reader):
    assert reader.quality["View"] > 0.99
    assert reader.quality["Edema"] > 0.9
    shares = reader.read(people(50, seed=3))
    assert np.allclose(shares["View"].sum(axis=1), 1)


def test_true_twins_are_accepted_if_changed(reader):
    cohort = people(200, seed=1)
    gates = Gates(effectiveness=None)
    pairs = Pairs.from_cohorts(
        GRAPH, cohort, as_men(cohort), MEN, null=cohort, reader=reader, gates=gates
    )
    women = (cohort.table["Sex"] == "F").to_numpy()
    assert (pairs.valid == women).all()
    assert set(pairs.gates["why"]) == {"", "unchanged"}
    assert (pairs.gates["round_trip"] == 0).all()
    # View is a non-descendant, and changes no more than its reader is uncertain.
    assert pairs.amplification.set_index("variable").loc["View", "absolute"] < 0.05
    flow = pairs.flow.set_index("step")["pairs"]
    assert flow.to_dict() == {
        "all": 200,
        "rejected: unchanged": int((~women).sum()),
        "accepted": int(women.sum()),
    }


def test_amplification_rejects_another_view(reader):
    cohort = people(200, seed=1)
    twin = as_men(cohort, also="View")
    pairs = Pairs.from_cohorts(
        GRAPH, cohort, twin, MEN, null=cohort, reader=reader, gates=Gates(effectiveness=None)
    )
    women = (cohort.table["Sex"] == "F").to_numpy()
    assert not pairs.valid.any()
    assert set(pairs.gates["why"][women]) == {"amplification"}
    assert pairs.amplification.set_index("variable").loc["View", "absolute"] > 0.9


def test_effectiveness_rejects_unchanged_images():
    read = AttributeReader.fit(
        people(600, seed=9).select("Edema == 'N'"), GRAPH, ["Sex"], features=features
    )
    cohort = people(200, seed=1).select("Edema == 'N'")
    still = as_men(cohort).with_images(cohort.images[:])
    women = (cohort.table["Sex"] == "F").to_numpy()
    good = Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN, reader=read)
    bad = Pairs.from_cohorts(GRAPH, cohort, still, MEN, reader=read)
    assert good.valid[women].all()
    assert not bad.valid.any()
    assert set(bad.gates["why"][women]) == {"effectiveness"}


def test_round_trip_rejects_changed_null_twins():
    cohort = people(40, seed=1)
    off = cohort.images[:].copy()
    off[:20] -= 0.01
    pairs = Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN, null=cohort.with_images(off))
    women = (cohort.table["Sex"] == "F").to_numpy()
    assert (pairs.valid == (women & (np.arange(40) >= 20))).all()
    assert np.allclose(pairs.gates["round_trip"][:20], 0.01, atol=1e-6)
    assert set(pairs.gates["why"][:20]) == {"round trip", "unchanged, round trip"}


def test_missing_factual_value_is_rejected():
    cohort = people(10, seed=1)
    table = cohort.table
    table.loc["r3", "Sex"] = None
    cohort = Cohort(table, cohort.images[:])
    pairs = Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN)
    assert pairs.gates.loc["r3", "why"] == "unknown before"


def test_effectiveness_of_numbers_is_a_share_of_the_change():
    graph = GRAPH.without_variable("Image")
    from causalcxr import Graph

    graph = Graph.parse(
        "variables: {Age: {type: continuous, range: [0, 100]}, "
        "Image: {type: image, parents: [Age], mechanism: {kind: radit, resolution: 16}}}"
    )
    age = np.linspace(20, 80, 120)

    def cohort(years, shown):
        images = np.broadcast_to((shown / 100)[:, None, None, None], (120, 1, 4, 4))
        return Cohort(pd.DataFrame({"Age": years}), images.astype(np.float32).copy())

    def grey(c):
        return c.images[:].mean((1, 2, 3))[:, None]

    read = AttributeReader.fit(cohort(age, age), graph, features=grey)
    factual = cohort(age, age)
    full, half, none = (
        Pairs.from_cohorts(
            graph, factual, cohort(age + 10, age + seen), do(age=lambda a: a + 10), reader=read
        )
        for seen in (10.0, 4.0, 0.0)
    )
    assert np.allclose(full.gates["effectiveness"], 1, atol=0.02)
    assert np.allclose(half.gates["effectiveness"], 0.4, atol=0.02)
    assert full.valid.all()
    assert half.valid.all()
    assert set(none.gates["why"]) == {"effectiveness"}


def test_make_pairs_returns_twins_and_direct_twins(model, records):
    cohort = records
    pairs = make_pairs(model, cohort, MEN, draws=3)
    assert len(pairs) == 1200
    assert pairs.about["draws"] == 3
    assert (pairs.worlds["direct"].table["Sex"] == "M").all()
    assert (pairs.worlds["direct"].table["Edema"] == pairs.factual.table["Edema"]).all()
    assert (pairs.worlds["null"].table == pairs.factual.table).all().all()
    men = (cohort.table["Sex"] == "M").mean()
    assert np.allclose(pairs.gates["plausibility"], men, atol=0.02)
    direct = model.counterfactual(cohort, MEN, draws=3)
    assert (pairs.twin.table == direct.table).all().all()
    assert pairs.valid.sum() == 3 * (cohort.table["Sex"] == "F").sum()


def test_support_rejects_empty_cells():
    cohort = people(400, seed=1).with_images(None)
    taught = cohort.select("not (Sex == 'M' and Edema == 'N')").assign_splits((1.0, 0.0, 0.0))
    few = taught.table["Sex"] == "F"
    lone = pd.concat([taught.table[few], taught.table[~few].head(3)])
    model = SCM(TABULAR).fit(Cohort(lone).assign_splits((1.0, 0.0, 0.0)))
    pairs = make_pairs(model, cohort.select("Sex == 'F'"), MEN)
    assert not pairs.valid.any()
    assert set(pairs.gates["why"]) == {"support"}


def test_plausibility_rejects_rare_levels(model, records):
    some = records.select("Edema == 'N'").head(40)
    none, everyone = (
        make_pairs(model, some, do(edema="P"), gates=Gates(plausibility=p)) for p in (0.6, 0.1)
    )
    # About 40 % of these records have edema, also by the model.
    assert set(none.gates["why"]) == {"plausibility"}
    assert none.gates["plausibility"].between(0.25, 0.55).all()
    assert everyone.valid.all()


def test_saved_pairs_load_unchanged(tmp_path, reader):
    cohort = people(30, seed=2)
    pairs = Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN, null=cohort, reader=reader)
    pairs.save(tmp_path / "p")
    again = Pairs.load(tmp_path / "p")
    pd.testing.assert_frame_equal(again.gates, pairs.gates, check_dtype=False)
    assert again.about == json.loads(json.dumps(pairs.about))
    assert again.graph.hash == GRAPH.hash
    for name, world in pairs.worlds.items():
        assert (again.worlds[name].table == world.table).all().all()
        assert np.abs(again.worlds[name].images[:] - world.images[:]).max() < 1e-5


@pytest.mark.slow  # fits a model, and makes images
def test_unchanged_records_get_no_images(tmp_path, monkeypatch):
    model, cohort = explorers.fitted(), explorers.patients(8)
    women = (cohort.table["Sex"] == "F").to_numpy()
    assert 0 < women.sum() < 8
    worlds = make_worlds(model, cohort, MEN)
    pairs = write_pairs(worlds, model.graph, MEN, tmp_path / "pairs")
    for name in ("twin", "null", "direct"):
        assert (pairs.worlds[name].images.available == women).all()
        assert len(list((tmp_path / "pairs" / name / "images").iterdir())) == women.sum()
    assert pairs.factual.images.available.all()
    assert pairs.unchanged == (~women).sum()
    assert set(pairs.gates["why"][~women]) == {"unchanged"}
    assert pairs.gates["round_trip"].notna().to_numpy().tolist() == women.tolist()
    scorer = as_classifier(lambda images: images.mean((1, 2, 3)), target="Pleural Effusion")
    audited = audit_pairs(scorer, Pairs.load(tmp_path / "pairs"), bootstrap=20)
    assert audited.records["twin"].notna().sum() == pairs.valid.sum()


def test_killed_job_resumes(tmp_path, monkeypatch, model):
    cohort = people(60, seed=1).with_images(None)
    worlds = make_worlds(model, cohort, MEN, draws=2)
    folder, calls = tmp_path / "p", []
    real = Cohort.load

    def dies(place, **options):
        calls.append(place)
        raise KeyboardInterrupt

    monkeypatch.setattr(Cohort, "load", staticmethod(dies))
    with pytest.raises(KeyboardInterrupt):
        write_pairs(worlds, TABULAR, MEN, folder, identity={"cohort": "a"})
    monkeypatch.setattr(Cohort, "load", staticmethod(real))
    with pytest.raises(AuditError, match="holds no complete pairs"):
        Pairs.load(folder)
    unfinished = tmp_path / ".p.unfinished" / "result"
    before = (unfinished / "twin" / "cohort.csv").stat().st_mtime_ns
    with pytest.raises(AuditError, match=r"unfinished work here \(cohort a, not b\)"):
        write_pairs(worlds, TABULAR, MEN, folder, identity={"cohort": "b"})
    pairs = write_pairs(worlds, TABULAR, MEN, folder, identity={"cohort": "a"})
    assert (folder / "twin" / "cohort.csv").stat().st_mtime_ns == before
    assert Pairs.load(folder).valid.sum() == pairs.valid.sum()
    assert Pairs.load(folder).factual.index.nlevels == 2


def test_wrong_pairs_are_refused(tmp_path):
    cohort = people(10, seed=1)
    with pytest.raises(AuditError, match="the rows of twin are not those of the records"):
        Pairs.from_cohorts(GRAPH, cohort, as_men(cohort).head(5), MEN)
    with pytest.raises(AuditError, match="the intervention sets nothing"):
        Pairs.from_cohorts(GRAPH, cohort, cohort, do())
    with pytest.raises(AuditError, match="there are no records"):
        Pairs.from_cohorts(GRAPH, cohort.head(0), cohort.head(0), MEN)
    with pytest.raises(AuditError, match=r"round_trip is -1; give 0 or more"):
        Gates(round_trip=-1)
    (tmp_path / "x").write_text("mine", encoding="utf-8")
    with pytest.raises(AuditError, match="holds something else than pairs"):
        Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN).save(tmp_path)
    assert (tmp_path / "x").read_text(encoding="utf-8") == "mine"
    with pytest.raises(AuditError, match="no variable of the 10 records has two levels"):
        AttributeReader.fit(cohort, GRAPH, features=features)
