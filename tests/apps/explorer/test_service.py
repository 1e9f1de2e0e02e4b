"""The explorer's service: choosing patients, questions, uploads, downloads."""

import base64
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pydicom
import pytest
from explorers import HOSTILE, patients, small_workspace
from PIL import Image
from pydantic import ValidationError

from causalcxr.apps.explorer import downloads
from causalcxr.apps.explorer.downloads import ImagePair
from causalcxr.apps.explorer.image_encoding import encoded, pair_png, thumbnail, to_uint16
from causalcxr.apps.explorer.patients import PatientList, controls, doses
from causalcxr.apps.explorer.rendering import render_twins
from causalcxr.apps.explorer.service import ExplorerService, PatientReference, QuestionRequest
from causalcxr.apps.explorer.uploads import MAX_BYTES, Uploads
from causalcxr.apps.explorer.workspace import Models
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError, ModelError
from causalcxr.common.threads import one_thread
from causalcxr.images.synthetic_mark import MARK


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = ExplorerService(small_workspace(tmp_path_factory.mktemp("workspace")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def cohort(service):
    return service.workspace.cohorts["patients"]


def request(row=0, **fields):
    return QuestionRequest(
        model="small", patient=PatientReference(cohort="patients", row=row), **fields
    )


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


# Choosing patients


def test_filters_select_patients(service, cohort):
    patient_list, table = service.patient_list("patients", "small"), cohort.table
    rule = {"Sex": {"level": "F"}, "Age": {"low": 40, "high": 80}}
    wanted = np.flatnonzero((table["Sex"] == "F") & table["Age"].between(40, 80))
    found = patient_list.page(rule)
    assert found["count"] == len(wanted)
    assert [item["row"] for item in found["items"]] == wanted[:12].tolist()
    assert patient_list.page({})["pages"] == 2
    assert [item["row"] for item in patient_list.page({}, 7)["items"]] == list(range(12, 24))
    assert patient_list.page({"View": {"level": ""}})["count"] == 0
    with pytest.raises(CohortError, match="Sex has no level 'X'"):
        patient_list.page({"Sex": {"level": "X"}})
    with pytest.raises(CohortError, match="no variable 'Nobody'"):
        patient_list.page({"Nobody": {"level": "X"}})


def test_records_without_image_come_last(service, cohort):
    graph, table = service.workspace.models["small"].graph, cohort.table.head(3)
    some = Cohort(table, np.zeros((3, 4, 4), np.uint8)).with_images(None)
    assert [item["image"] for item in PatientList(some, graph).page({})["items"]] == [False] * 3
    with pytest.raises(CohortError, match="no image"):
        PatientList(some, graph).thumbnail(0)
    content = service.patient_list("patients", "small").thumbnail(2)
    with Image.open(io.BytesIO(content)) as small:
        assert (small.size, small.mode, small.text["Comment"]) == ((64, 64), "L", MARK)


def test_controls_have_levels_or_a_slider(service, cohort):
    graph = service.workspace.models["small"].graph
    told = {each["name"]: each for each in controls(graph, cohort.columns(graph))}
    assert told["Age"] == {
        "name": "Age", "levels": [], "parents": [], "low": 0.0, "high": 105.0, "step": 1.0,
        "unit": "year",
    }  # fmt: skip
    assert told["View"]["levels"] == ["AP", "PA", "LATERAL"]
    assert list(told) == list(graph.tabular)


def test_doses_span_the_cohort(service, cohort):
    graph = service.workspace.models["small"].graph
    ages = cohort.table["Age"].to_numpy(dtype=float)
    found = doses(graph["Age"], ages)
    assert len(found) == 7
    assert found == sorted(found)
    low, high = np.quantile(ages, [0.05, 0.95])
    assert (found[0], found[-1]) == (pytest.approx(low, abs=0.6), pytest.approx(high, abs=0.6))
    with pytest.raises(CohortError, match="no numbers to vary"):
        doses(graph["Sex"], np.array([0.0]))


def test_dose_table_holds_the_answer_at_each_dose(service, cohort):
    question = request(3, settings={"sex": "M", "Age": 1}, hold=["View"])
    table = service.dose_table(question, "Age")
    assert table["doses"] == [f"{dose:g} year" for dose in table["values"]]
    model, patient = service.workspace.models["small"], cohort.at([3])
    for line in table["lines"]:
        assert any(twin != line["factual"] for twin in line["twins"])
    for k, dose in enumerate(table["values"]):
        twin = model.counterfactual(patient, {"Sex": "M", "Age": dose}, hold=["View"]).table
        for line in table["lines"]:
            assert line["twins"][k] == twin[line["name"]].iloc[0]
    assert "View" not in [line["name"] for line in table["lines"]]


# Questions


def test_repeated_question_is_not_recomputed(service):
    question = request(1, settings={"Pleural Effusion": "P"})
    assert service.answer(question) is service.answer(question.model_copy())
    chosen = "cx.Cohort.load('patients').at([1])"
    code = f"model.counterfactual({chosen}, do({{'Pleural Effusion': 'P'}}))"
    assert service.table(question)["python"] == code
    assert ">N → P<" in service.graph(question) or ">P<" in service.graph(question)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"row": 99}, "no record 99; the cohort has 24"),
        ({"cohort": "/etc/passwd"}, "no cohort '/etc/passwd' here"),
        ({"upload": "nowhere"}, "no longer in memory; upload it again"),
    ],
)
def test_unknown_patient_or_model_is_refused(service, fields, why):
    who = PatientReference(**{"cohort": "patients", **fields})
    with pytest.raises(CohortError, match=why):
        service.abducted(QuestionRequest(model="small", patient=who))
    with pytest.raises(ModelError, match="no model 'other' here"):
        service.abducted(
            QuestionRequest(model="other", patient=PatientReference(cohort="patients"))
        )


@pytest.mark.parametrize(
    "given",
    [
        {"model": "small"}, {"model": "small", "patient": {"cohort": "a", "row": -1}},
        {"model": "small", "patient": {"cohort": "a"}, "settings": {"Age": float("nan")}},
        {"model": "small", "patient": {"cohort": "a"}, "settings": {"Age": [1]}},
        {"model": "small", "patient": {"cohort": "a"}, "more": 1},
    ],
)  # fmt: skip
def test_malformed_question_is_refused(given):
    with pytest.raises(ValidationError):
        QuestionRequest.model_validate(given)


def test_taken_model_name_is_refused():
    models = Models("a", "first", "code")
    models.add("b", "second", "more")
    with pytest.raises(ModelError, match="'b' exists already"):
        models.add("b", "third", "")
    assert (models.names, models["b"], models.code("b")) == (("a", "b"), "second", "more")


# Uploads


def test_hostile_file_name_is_only_displayed(service):
    pixels = np.arange(64 * 32, dtype=np.uint16).reshape(64, 32) * 31
    upload = service.uploads.put(png(pixels), f"../../etc/{HOSTILE}\x00\n.png")
    assert upload.name == f"{HOSTILE.rsplit('/', 1)[-1]}??.png"
    assert upload.format == "PNG"
    assert (upload.pixels == pixels).all()
    who = PatientReference(upload=upload.token, facts={"Sex": "F", "Age": 40})
    abducted = service.abducted(QuestionRequest(model="small", patient=who))
    assert abducted.patient.images.size == (64, 32)  # its own size: the twin has it, too
    assert abducted.facts == {
        "Age": "40 year", "Sex": "F", "View": "missing", "Pleural Effusion": "missing",
        "Site": "missing",
    }  # fmt: skip
    assert abducted.patient.records[0].startswith("dropped-")
    code = service.code(QuestionRequest(model="small", patient=who, settings={"Sex": "M"}))
    assert "onerror" not in code
    assert code.startswith("model.counterfactual(cx.Cohort(pd.DataFrame([{'")
    with pytest.raises(CohortError, match="'X'"):
        service.patient(
            QuestionRequest(
                model="small", patient=PatientReference(upload=upload.token, facts={"Sex": "X"})
            )
        )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"<html>", "a HTML or XML file"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "image.dcm: "),
        (bytes(MAX_BYTES + 1), "larger than 32 MB"),
    ],
    ids=["empty", "html", "torn", "large"],
)
def test_unreadable_upload_is_refused(content, why):
    with pytest.raises(CohortError, match=why) as fault:
        Uploads().put(content, "image.dcm")
    assert "/tmp" not in str(fault.value)
    assert "\n" not in str(fault.value)


def test_large_upload_is_reduced_and_the_oldest_dropped():
    uploads = Uploads()
    first = uploads.put(png(np.full((1100, 2200), 90, np.uint8)), "a.png")
    assert first.pixels.shape == (1024, 2048)
    assert (first.pixels == 90 * 257).all()
    kept = [uploads[first.token]]
    for k in range(16):
        uploads._kept.put(f"{k}", first)
    kept.append(uploads.put(png(np.zeros((4, 4), np.uint8)), "b.png"))
    with pytest.raises(CohortError, match="upload it again"):
        uploads[first.token]


# Downloads


@pytest.fixture(scope="module")
def taken(service, cohort):
    row = int(np.flatnonzero(cohort.table["Pleural Effusion"] == "N")[0])
    question = request(row, settings={"Pleural Effusion": "P", "Age": 95})
    abducted = service.abducted(question)
    with one_thread():
        [twin] = render_twins(abducted, [question.question])
    return (
        question,
        abducted,
        service.answer(question),
        ImagePair(service.factual(question), to_uint16(twin)),
    )


def test_png_holds_both_images_and_the_mark(taken):
    _, abducted, answer, pair = taken
    content = pair.png(downloads.provenance_of(abducted, answer))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.text["Comment"] == MARK
        assert "Pleural Effusion = P" in picture.text["Description"]
        pixels = np.asarray(picture)
    times = pixels.shape[1] // (64 + 8 + 64)
    assert (pixels[: 64 * times : times, : 64 * times : times] == pair.factual).all()
    assert (pixels[: 64 * times : times, 72 * times :: times] == pair.twin).all()
    assert pixels[64 * times :].max() > 60000  # the words on the strip


def test_dicom_of_a_phantom_pair_is_marked_synthetic(service, taken):
    _, abducted, answer, pair = taken
    content = downloads.pair_dicom(abducted, answer, pair, service.key)
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
    assert twin.PatientID == factual.PatientID != str(abducted.patient.records[0])
    assert twin.SOPInstanceUID != factual.SOPInstanceUID
    assert twin.PatientAge == "090Y"  # ages above 89 are one
    assert sidecar["variables"]["Age"] == 90
    assert "Pleural Effusion" in sidecar["changed"]
    assert "do(Pleural Effusion = P, Age = 95.0)" in twin.DerivationDescription


def test_real_image_is_not_exported_as_dicom(service, taken):
    question, abducted, _, pair = taken
    real = patients(4).at([0]).described("somewhere")
    own = type(abducted)(abducted.model, Cohort(real.table, pair.factual[None], source="nih"))
    content = downloads.pair_dicom(own, own.ask(question.question), pair, service.key)
    with zipfile.ZipFile(io.BytesIO(content)) as folder:
        assert sorted(folder.namelist()) == ["twin.dcm", "twin.json"]
        twin = pydicom.dcmread(io.BytesIO(folder.read("twin.dcm")))
    assert "BurnedInAnnotation" not in twin  # nobody has looked


def test_json_records_the_provenance(service, taken):
    question, abducted, answer, _ = taken
    code = service.code(question)
    told = json.loads(downloads.answer_json(abducted, answer, service.assumptions(question), code))
    assert told["mark"] == MARK
    assert told["python"] == code
    assert told["provenance"]["graph_sha256"] == abducted.model.graph.hash
    assert told["provenance"]["coupling"]["Site"] == "monotone"
    assert told["provenance"]["coupling"]["Image"] == "inversion"
    assert told["image_coupling"].startswith("inversion, ")
    assert told["provenance"]["seed"] == 0
    assert set(told["couplings"]) == {"View", "Site"}
    program = downloads.python_text(code).decode()
    compile(program, "pair.py", "exec")
    assert code in program


def test_pair_cannot_be_downloaded_before_it_is_rendered(service, taken):
    question, _, _, pair = taken
    with pytest.raises(CohortError, match="not rendered yet"):
        service.pair(question)
    service.keep(question, pair)
    assert service.pair(question.model_copy()) is pair


def test_image_encoding_is_lossless():
    values = np.linspace(0, 1, 65536, dtype=np.float64).reshape(1, 256, 256)
    pixels = to_uint16(values)
    assert (pixels.ravel() == np.arange(65536)).all()
    told = encoded(pixels)
    back = np.frombuffer(base64.b64decode(told["data"]), "<u2").reshape(256, 256)
    assert (back == pixels).all()
    assert to_uint16(np.array([[-0.1, 1.1]])).tolist() == [[0, 65535]]
    with Image.open(io.BytesIO(thumbnail(pixels, synthetic=False))) as small:
        assert small.size == (96, 96)
        assert "Comment" not in small.text
    assert pair_png(pixels, pixels, "é").startswith(b"\x89PNG")


def test_missing_columns_read_as_missing_values(service):
    table = pd.DataFrame({"Age": [50, None]}, index=["a", "b"])
    patient_list = PatientList(Cohort(table), service.workspace.models["small"].graph)
    assert [item["caption"] for item in patient_list.page({})["items"]] == [
        "Age 50 year · Sex missing · View missing", "Age missing · Sex missing · View missing",
    ]  # fmt: skip
