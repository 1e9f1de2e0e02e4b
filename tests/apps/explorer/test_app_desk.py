"""The explorer's desk: patients to choose, files that are dropped in, files to take along."""

import base64
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pydicom
import pytest
from explorers import HOSTILE, patients, workbench
from PIL import Image
from pydantic import ValidationError

from causalcxr.apps.explorer import downloads
from causalcxr.apps.explorer.desk import Asked, Desk, Who
from causalcxr.apps.explorer.downloads import Pair
from causalcxr.apps.explorer.dropping import MOST, Drops
from causalcxr.apps.explorer.filming import films
from causalcxr.apps.explorer.patients import Ward, controls, doses
from causalcxr.apps.explorer.pictures import grey, packed, pair_png, thumbnail
from causalcxr.apps.explorer.workbench import Models
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError, ModelError
from causalcxr.common.threads import one_thread
from causalcxr.images.synthetic_mark import MARK


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    made = Desk(workbench(tmp_path_factory.mktemp("bench")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def cohort(desk):
    return desk.workbench.cohorts["patients"]


def asked(row=0, **fields):
    return Asked(model="small", who=Who(cohort="patients", row=row), **fields)


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


# Choosing


def test_given_filters_then_the_patients_are_those_that_pass_all(desk, cohort):
    ward, table = desk.ward("patients", "small"), cohort.table
    rule = {"Sex": {"level": "F"}, "Age": {"low": 40, "high": 80}}
    wanted = np.flatnonzero((table["Sex"] == "F") & table["Age"].between(40, 80))
    found = ward.page(rule)
    assert found["found"] == len(wanted)
    assert [item["row"] for item in found["items"]] == wanted[:12].tolist()
    assert ward.page({})["pages"] == 2
    assert [item["row"] for item in ward.page({}, 7)["items"]] == list(range(12, 24))
    assert ward.page({"View": {"level": ""}})["found"] == 0
    with pytest.raises(CohortError, match="Sex has no level 'X'"):
        ward.page({"Sex": {"level": "X"}})
    with pytest.raises(CohortError, match="no variable 'Nobody'"):
        ward.page({"Nobody": {"level": "X"}})


def test_given_records_without_an_image_then_they_come_last_and_have_no_thumbnail(desk, cohort):
    graph, table = desk.workbench.models["small"].graph, cohort.table.head(3)
    films = np.zeros((3, 4, 4), np.uint8)
    some = Cohort(table, films).with_images(None)
    assert [item["image"] for item in Ward(some, graph).page({})["items"]] == [False] * 3
    with pytest.raises(CohortError, match="no image"):
        Ward(some, graph).thumbnail(0)
    content = desk.ward("patients", "small").thumbnail(2)
    with Image.open(io.BytesIO(content)) as small:
        assert (small.size, small.mode, small.text["Comment"]) == ((64, 64), "L", MARK)


def test_given_a_graph_then_each_variable_gets_levels_or_a_slider(desk, cohort):
    graph = desk.workbench.models["small"].graph
    told = {each["name"]: each for each in controls(graph, cohort.columns(graph))}
    assert told["Age"] == {
        "name": "Age", "levels": [], "parents": [], "low": 0.0, "high": 105.0, "step": 1.0,
        "unit": "year",
    }  # fmt: skip
    assert told["View"]["levels"] == ["AP", "PA", "LATERAL"]
    assert list(told) == list(graph.tabular)


def test_given_doses_then_they_span_the_cohort_and_levels_are_refused(desk, cohort):
    graph = desk.workbench.models["small"].graph
    ages = cohort.table["Age"].to_numpy(dtype=float)
    found = doses(graph["Age"], ages)
    assert len(found) == 7
    assert found == sorted(found)
    low, high = np.quantile(ages, [0.05, 0.95])
    assert (found[0], found[-1]) == (pytest.approx(low, abs=0.6), pytest.approx(high, abs=0.6))
    with pytest.raises(CohortError, match="no numbers to vary"):
        doses(graph["Sex"], np.array([0.0]))


def test_given_a_dose_table_then_it_is_the_answer_at_each_dose(desk, cohort):
    question = asked(3, settings={"sex": "M", "Age": 1}, hold=["View"])
    table = desk.dose_table(question, "Age")
    assert table["doses"] == [f"{dose:g} year" for dose in table["values"]]
    model, patient = desk.workbench.models["small"], cohort.at([3])
    for line in table["lines"]:
        assert any(twin != line["factual"] for twin in line["twins"])
    for k, dose in enumerate(table["values"]):
        twin = model.counterfactual(patient, {"Sex": "M", "Age": dose}, hold=["View"]).table
        for line in table["lines"]:
            assert line["twins"][k] == twin[line["name"]].iloc[0]
    assert "View" not in [line["name"] for line in table["lines"]]


# Asking


def test_given_a_table_then_a_second_question_is_answered_from_memory_and_alike(desk):
    question = asked(1, settings={"Pleural Effusion": "P"})
    assert desk.answer(question) is desk.answer(question.model_copy())
    chosen = "cx.Cohort.load('patients').at([1])"
    code = f"model.counterfactual({chosen}, do({{'Pleural Effusion': 'P'}}))"
    assert desk.table(question)["python"] == code
    assert ">N → P<" in desk.graph(question) or ">P<" in desk.graph(question)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"row": 99}, "no record 99; the cohort has 24"),
        ({"cohort": "/etc/passwd"}, "no cohort '/etc/passwd' here"),
        ({"drop": "nowhere"}, "no longer here; drop it in again"),
    ],
)
def test_given_nobody_then_one_line_says_so(desk, fields, why):
    who = Who(**{"cohort": "patients", **fields})
    with pytest.raises(CohortError, match=why):
        desk.visit(Asked(model="small", who=who))
    with pytest.raises(ModelError, match="no model 'other' here"):
        desk.visit(Asked(model="other", who=Who(cohort="patients")))


@pytest.mark.parametrize(
    "given",
    [
        {"model": "small"}, {"model": "small", "who": {"cohort": "a", "row": -1}},
        {"model": "small", "who": {"cohort": "a"}, "settings": {"Age": float("nan")}},
        {"model": "small", "who": {"cohort": "a"}, "settings": {"Age": [1]}},
        {"model": "small", "who": {"cohort": "a"}, "more": 1},
    ],
)  # fmt: skip
def test_given_what_no_page_sends_then_it_is_refused(given):
    with pytest.raises(ValidationError):
        Asked.model_validate(given)


def test_given_a_model_of_a_taken_name_then_the_first_stays():
    models = Models("a", "first", "code")
    models.add("b", "second", "more")
    with pytest.raises(ModelError, match="'b' is here already"):
        models.add("b", "third", "")
    assert (models.names, models["b"], models.code("b")) == (("a", "b"), "second", "more")


# Dropping in


def test_given_a_file_with_a_hostile_name_then_it_is_shown_in_one_line_and_never_opened(desk):
    pixels = np.arange(64 * 32, dtype=np.uint16).reshape(64, 32) * 31
    drop = desk.drops.put(png(pixels), f"../../etc/{HOSTILE}\x00\n.png")
    assert drop.name == f"{HOSTILE.rsplit('/', 1)[-1]}??.png"
    assert drop.format == "PNG"
    assert (drop.pixels == pixels).all()
    who = Who(drop=drop.token, facts={"Sex": "F", "Age": 40})
    visit = desk.visit(Asked(model="small", who=who))
    assert visit.patient.images.size == (64, 64)
    assert visit.facts == {
        "Age": "40 year", "Sex": "F", "View": "missing", "Pleural Effusion": "missing",
        "Site": "missing",
    }  # fmt: skip
    assert visit.patient.records[0].startswith("dropped-")
    code = desk.code(Asked(model="small", who=who, settings={"Sex": "M"}))
    assert "onerror" not in code
    assert code.startswith("model.counterfactual(cx.Cohort(pd.DataFrame([{'")
    with pytest.raises(CohortError, match="'X'"):
        desk.patient(Asked(model="small", who=Who(drop=drop.token, facts={"Sex": "X"})))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"<html>", "a HTML or XML file"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "image.dcm: "),
        (bytes(MOST + 1), "larger than 32 MB"),
    ],
    ids=["empty", "html", "torn", "large"],
)
def test_given_a_file_that_is_no_radiograph_then_one_line_says_why(content, why):
    with pytest.raises(CohortError, match=why) as fault:
        Drops().put(content, "image.dcm")
    assert "/tmp" not in str(fault.value)
    assert "\n" not in str(fault.value)


def test_given_a_large_film_then_what_is_kept_is_small_and_the_oldest_is_let_go():
    drops = Drops()
    first = drops.put(png(np.full((1500, 3000), 90, np.uint8)), "a.png")
    assert first.pixels.shape == (512, 1024)
    assert (first.pixels == 90 * 257).all()
    kept = [drops[first.token]]
    for k in range(16):
        drops._kept.put(f"{k}", first)
    kept.append(drops.put(png(np.zeros((4, 4), np.uint8)), "b.png"))
    with pytest.raises(CohortError, match="drop it in again"):
        drops[first.token]


# Taking along


@pytest.fixture(scope="module")
def taken(desk, cohort):
    row = int(np.flatnonzero(cohort.table["Pleural Effusion"] == "N")[0])
    question = asked(row, settings={"Pleural Effusion": "P", "Age": 95})
    visit = desk.visit(question)
    with one_thread():
        [twin] = films(visit, [question.question])
    return question, visit, desk.answer(question), Pair(desk.factual(question), grey(twin))


def test_given_a_pair_as_png_then_both_are_in_it_to_16_bits_and_it_is_marked(taken):
    _, visit, answer, pair = taken
    content = pair.png(downloads.provenance_of(visit, answer))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.text["Comment"] == MARK
        assert "Pleural Effusion = P" in picture.text["Description"]
        pixels = np.asarray(picture)
    times = pixels.shape[1] // (64 + 8 + 64)
    assert (pixels[: 64 * times : times, : 64 * times : times] == pair.factual).all()
    assert (pixels[: 64 * times : times, 72 * times :: times] == pair.twin).all()
    assert pixels[64 * times :].max() > 60000  # the words on the strip


def test_given_a_pair_of_phantoms_as_dicom_then_both_say_that_they_are_synthetic(desk, taken):
    _, visit, answer, pair = taken
    content = downloads.pair_dicom(visit, answer, pair, desk.key)
    with zipfile.ZipFile(io.BytesIO(content)) as folder:
        assert sorted(folder.namelist()) == [
            "factual.dcm", "factual.json", "twin.dcm", "twin.json",
        ]  # fmt: skip
        twin = pydicom.dcmread(io.BytesIO(folder.read("twin.dcm")))
        factual = pydicom.dcmread(io.BytesIO(folder.read("factual.dcm")))
        sidecar = json.loads(folder.read("twin.json"))
    assert (twin.pixel_array == pair.twin).all()
    assert (factual.pixel_array == pair.factual).all()
    assert twin.SyntheticData == factual.SyntheticData == "YES"
    assert twin.PatientID == factual.PatientID != str(visit.patient.records[0])
    assert twin.SOPInstanceUID != factual.SOPInstanceUID
    assert twin.PatientAge == "090Y"  # ages above 89 are one
    assert sidecar["variables"]["Age"] == 90
    assert "Pleural Effusion" in sidecar["changed"]
    assert "do(Pleural Effusion = P, Age = 95.0)" in twin.DerivationDescription


def test_given_a_patients_own_image_then_it_never_becomes_dicom(desk, taken):
    question, visit, _, pair = taken
    real = patients(4).at([0]).described("somewhere")
    own = type(visit)(visit.model, Cohort(real.table, pair.factual[None], source="nih"))
    content = downloads.pair_dicom(own, own.ask(question.question), pair, desk.key)
    with zipfile.ZipFile(io.BytesIO(content)) as folder:
        assert sorted(folder.namelist()) == ["twin.dcm", "twin.json"]
        twin = pydicom.dcmread(io.BytesIO(folder.read("twin.dcm")))
    assert "BurnedInAnnotation" not in twin  # nobody has looked


def test_given_an_answer_as_json_then_it_says_how_it_was_made(desk, taken):
    question, visit, answer, _ = taken
    code = desk.code(question)
    told = json.loads(downloads.answer_json(visit, answer, desk.doubt(question), code))
    assert told["mark"] == MARK
    assert told["python"] == code
    assert told["provenance"]["graph_sha256"] == visit.model.graph.hash
    assert told["provenance"]["coupling"]["Site"] == "monotone"
    assert told["provenance"]["seed"] == 0
    assert set(told["couplings"]) == {"View", "Site"}
    program = downloads.python_text(code).decode()
    compile(program, "pair.py", "exec")
    assert code in program


def test_given_a_pair_that_is_not_made_then_it_cannot_be_taken_along(desk, taken):
    question, _, _, pair = taken
    with pytest.raises(CohortError, match="not made yet"):
        desk.pair(question)
    desk.keep(question, pair)
    assert desk.pair(question.model_copy()) is pair


def test_given_greys_then_they_travel_without_loss():
    values = np.linspace(0, 1, 65536, dtype=np.float64).reshape(1, 256, 256)
    pixels = grey(values)
    assert (pixels.ravel() == np.arange(65536)).all()
    told = packed(pixels)
    back = np.frombuffer(base64.b64decode(told["data"]), "<u2").reshape(256, 256)
    assert (back == pixels).all()
    assert grey(np.array([[-0.1, 1.1]])).tolist() == [[0, 65535]]
    with Image.open(io.BytesIO(thumbnail(pixels, synthetic=False))) as small:
        assert small.size == (96, 96)
        assert "Comment" not in small.text
    assert pair_png(pixels, pixels, "é").startswith(b"\x89PNG")


def test_given_a_cohort_without_a_column_then_its_patients_are_asked_about_all_the_same(desk):
    table = pd.DataFrame({"Age": [50, None]}, index=["a", "b"])
    ward = Ward(Cohort(table), desk.workbench.models["small"].graph)
    assert [item["caption"] for item in ward.page({})["items"]] == [
        "Age 50 year · Sex missing · View missing", "Age missing · Sex missing · View missing",
    ]  # fmt: skip
