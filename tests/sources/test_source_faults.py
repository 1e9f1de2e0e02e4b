"""Every fault that a published table can have, by its name: a named error, or a counted rule."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from published import MAKERS, marks, write

from causalcxr import sources
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.sources.policy import Policy


@pytest.fixture
def brax(tmp_path):
    return MAKERS["brax"](tmp_path / "brax")


def table_of(folder):
    return folder / "master_spreadsheet_update.csv"


def changed(folder, old, new, count=1):
    file = table_of(folder)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, count))
    return folder


def harmonised(folder, **policy):
    result = sources.harmonise(folder, Policy.parse(policy))
    return result, {rule.name: rule for rule in result.rules}


def refused(folder, message, **policy):
    with pytest.raises(CohortError, match=message) as caught:
        sources.harmonise(folder, Policy.parse(policy), "brax")
    assert "\n" not in str(caught.value)


def values(result, name):
    return [None if value != value else value for value in result.table[name].astype(object)]


def test_nan_and_inf_are_missing(brax):
    changed(brax, ",M,40,", ",M,inf,")
    changed(brax, ",M,40,", ",M,NaN,")
    result, rules = harmonised(brax)
    assert values(result, "Age")[:2] == [None, None]
    assert (rules["age-unread"].rows, rules["age-blank"].rows) == (1, 2)
    changed(brax, marks(Fracture="1.0"), marks(Fracture="inf"))
    refused(brax, r"update\.csv:5: column 'Fracture': 'inf' is not a label; allowed: 1, 0, -1")


def test_minus_one_is_uncertain(brax):
    result, rules = harmonised(brax)
    assert values(result, "Lung Lesion")[2] == "U"
    assert rules["labels-uncertain"].records == ("images/id_bb/Study_3/Series_1/image-3.png",)
    graph = Graph.load("cxr7")
    assert np.isnan(result.cohort().columns(graph)["Lung Lesion"][2])
    changed(brax, marks(Fracture="1.0"), marks(Fracture="2"))
    refused(
        brax, r"update\.csv:5: column 'Fracture': '2' is not a label; allowed: 1, 0, -1 and blank"
    )


@pytest.mark.parametrize(
    ("text", "age", "name"),
    [
        ("155", None, "age-too-old"),
        ("414", None, "age-too-old"),
        ("0", 2, "age-binned"),
        ("060Y", 62, "age-binned"),
        ("003M", 2, "age-binned"),
        ("85 or more", 85, "age-open"),
        ("60-64", 62, "age-binned"),
        ("[60, 65)", 62, "age-binned"),
        ("-3", None, "age-unread"),
        ("forty", None, "age-unread"),
        ("", None, "age-blank"),
    ],
)
def test_ages_follow_their_rules(brax, text, age, name):
    changed(brax, ",M,40,", f',M,"{text}",')
    result, rules = harmonised(brax)
    assert values(result, "Age")[0] == age
    assert name in rules


def test_age_0_is_missing_among_adults(tmp_path):
    rex = sources.harmonise(MAKERS["rexgradient"](tmp_path / "rex"))
    assert values(rex, "Age")[2] == 0
    adults = sources.harmonise(MAKERS["chexpert"](tmp_path / "chexpert"))
    assert values(adults, "Age")[4] is None
    assert "age-zero" in [rule.name for rule in adults.rules]


@pytest.mark.parametrize("sex", ["O", "U", "Unknown", "", "X", "nan", "female?"])
def test_other_sexes_are_missing(brax, sex):
    changed(brax, "bb,F,", f"bb,{sex},")
    result, rules = harmonised(brax)
    assert values(result, "Sex") == ["M", "M", None, None, None]
    assert rules["sex-other"].rows == 3


def test_conflicting_races_follow_the_policy(tmp_path):
    folder = MAKERS["mimic"](tmp_path / "mimic")
    result = sources.harmonise(folder)
    assert values(result, "Race")[2] is None
    assert "race-conflict" in [rule.name for rule in result.rules]
    # A tie has no majority.
    write(
        folder / "mimic-iv/hosp/admissions.csv.gz",
        "subject_id,race\n10000764,ASIAN\n10000764,WHITE\n10000032,WHITE\n",
    )
    tie = sources.harmonise(folder, Policy(race_conflict="majority"))
    assert values(tie, "Race")[:3] == ["White", "White", None]


def test_patients_in_two_splits_follow_the_policy(tmp_path):
    folder = MAKERS["mimic"](tmp_path / "mimic")
    file = folder / "mimic-cxr-2.0.0-split.csv.gz"
    text = gzip.decompress(file.read_bytes()).decode()
    write(file, text.replace("10000032,train", "10000032,test", 1))
    with pytest.raises(CohortError, match="patient '10000032' is in two splits, test and train"):
        sources.harmonise(folder)
    moved, rules = harmonised(folder, split_conflict="strictest")
    assert moved.splits[:2].tolist() == ["test", "test"]
    assert rules["split-conflict"].rows == 2
    dropped, rules = harmonised(folder, split_conflict="drop")
    assert (len(dropped), dropped.rows_in, rules["split-conflict"].effect) == (4, 6, "dropped")


def test_duplicate_rows_are_kept_once_or_refused(brax):
    file = table_of(brax)
    rows = file.read_text().splitlines()
    file.write_text("\n".join([*rows, rows[1], rows[2]]) + "\n")
    result, rules = harmonised(brax)
    assert (len(result), result.rows_in) == (5, 7)
    assert rules["duplicate-rows"].rows == 2
    file.write_text("\n".join([*rows, rows[1].replace(",M,40,", ",F,40,")]) + "\n")
    refused(brax, r"update\.csv:7: column 'PngPath': .* occurs more than once, with different")
    first, rules = harmonised(brax, duplicates="first")
    assert values(first, "Sex")[0] == "M"
    assert rules["duplicate-ids"].rows == 1


def test_duplicate_labels_are_read_once_or_refused(tmp_path):
    folder = MAKERS["mimic"](tmp_path / "mimic")
    before = sources.harmonise(folder).table
    file = folder / "mimic-cxr-2.0.0-chexpert.csv.gz"
    text = gzip.decompress(file.read_bytes()).decode()
    one = text.splitlines()[1]
    write(file, text + one + "\n")
    assert sources.harmonise(folder).table.equals(before)
    write(file, text + one.replace("1.0", "0.0") + "\n")
    with pytest.raises(CohortError, match=r"csv\.gz:6: column 'study_id': '50414267' occurs more"):
        sources.harmonise(folder)


def test_missing_column_is_named(brax):
    changed(brax, "PatientSex", "Patient_Sex")
    refused(brax, r"update\.csv: no column 'PatientSex'; did you mean 'Patient_Sex'\?")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda good: good.replace(b"Philips", b"Philips\xe4", 1), r":2: byte 0xe4 is not UTF-8"),
        (lambda good: good.decode().encode("utf-16"), "UTF-16; save it as UTF-8"),
        (gzip.compress, r"compressed by gzip; decompress it first \(gunzip\), or name it \.gz"),
        (lambda good: b"", "the file is empty"),
        (lambda good: b"\xef\xbb\xbf\n\n", "the file is empty"),
        (lambda good: good.split(b"\n")[0] + b"\n", "a header but no records"),
        (lambda good: good[:-30], r":6: \d+ cells, the header has 25; the file may be cut short"),
        (lambda good: good[:-8] + b'"Phil', ":6: a quote is not closed; the file may be cut"),
        (lambda good: good.replace(b",PA,1024", b",PA,1,024", 1), r":2: 26 cells, the header has"),
        (lambda good: good.replace(b"Edema", b"Fracture"), r":1: column 'Fracture' occurs twice"),
        (lambda good: good + b"\0\n", ":7: a null byte; this is not a text file"),
        (lambda good: b"PK\x03\x04" + good, "a ZIP or a spreadsheet; save the table as .csv"),
        (lambda good: good.replace(b",aa,", b",,", 1), r":2: column 'PatientID': '' is not an id"),
    ],
    ids=["wrong_encoding", "utf_16", "gzip_named_csv", "empty_file", "only_a_bom", "no_records",
         "truncated_file", "truncated_in_a_quote", "a_comma_too_many", "a_column_twice",
         "null_byte", "spreadsheet", "no_patient"],
)  # fmt: skip
def test_damaged_file_is_named_with_its_line(brax, content, message):
    file = table_of(brax)
    file.write_bytes(content(file.read_bytes()))
    refused(brax, message)


def test_byte_order_mark_and_windows_line_ends_are_read(brax):
    before, _ = harmonised(brax)
    file = table_of(brax)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    after, _ = harmonised(brax)
    assert after.table.equals(before.table)
    assert (after.patients == before.patients).all()


def test_damaged_gz_is_named(tmp_path):
    folder = MAKERS["mimic"](tmp_path / "mimic")
    file = folder / "mimic-cxr-2.0.0-metadata.csv.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(CohortError, match=r"metadata\.csv\.gz: cannot be read"):
        sources.harmonise(folder, name="mimic")
    file.write_bytes(gzip.decompress(whole))
    with pytest.raises(CohortError, match=r"named \.gz but gzip did not make it"):
        sources.harmonise(folder, name="mimic")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        CohortError, match=r"no master_spreadsheet_update\.csv here, which brax requires"
    ):
        sources.harmonise(tmp_path, name="brax")
    with pytest.raises(CohortError, match="no such file or folder"):
        sources.harmonise(tmp_path / "nowhere")
    with pytest.raises(CohortError, match="none of the data sets brax, chexpert"):
        sources.harmonise(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"train_metadata_view_position\.json:1: not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1, 2]", "not one object per study"),
        ('{"a": {"PatientSex": "F"}}', r"no field 'ImagePath'"),
        (
            json.dumps({"a": {"PatientID": "p", "PatientSex": "F", "PatientAge": "060Y",
                              "ImagePath": ["x", "y"], "ImageViewPosition": ["PA"]}}),
            "study 'a': not one view per image",
        ),
    ],
)  # fmt: skip
def test_invalid_json_is_named(tmp_path, content, message):
    write(tmp_path / "metadata/train_metadata_view_position.json", content)
    with pytest.raises(CohortError, match=message):
        sources.harmonise(tmp_path, name="rexgradient")


def test_invalid_json_values_are_missing(
    tmp_path,
):
    folder = MAKERS["rexgradient"](tmp_path / "rex")
    file = folder / "metadata/train_metadata_view_position.json"
    studies = json.loads(file.read_text())
    studies["pA_1"] |= {"PatientAge": [60, 64], "PatientSex": {"F": 1}}
    studies["pE_1"] = studies["pA_1"] | {"ImagePath": [], "ImageViewPosition": []}
    file.write_text(json.dumps(studies))
    result = sources.harmonise(folder)
    assert len(result) == 6
    assert values(result, "Age")[:3] == [None, None, 0]
    assert values(result, "Sex")[:3] == [None, None, "M"]


@pytest.mark.parametrize("labels", ["***", "**", "..", "nowhere.csv", "/nowhere/at/all.csv", "\0"])
def test_unknown_labels_are_refused(tmp_path, labels):
    folder = MAKERS["mimic"](tmp_path / "mimic")
    with pytest.raises(CohortError, match="is neither labels of mimic nor a file"):
        sources.harmonise(folder, Policy(labels=labels))


def test_invalid_label_line_is_named(tmp_path):
    folder = MAKERS["chexpert_plus"](tmp_path / "plus")
    file = folder / "chexbert_labels/impression_fixed.json"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]))
    with pytest.raises(CohortError, match=r"impression_fixed\.json:2: not a JSON object"):
        sources.harmonise(folder)


def test_image_paths_out_of_the_folder_are_not_used(brax, tmp_path):
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    secret = tmp_path / "secret.png"
    grey.save(secret)
    inside = brax / "images/id_aa/Study_1/Series_1"
    inside.mkdir(parents=True)
    grey.save(inside / "image-1.png")
    (brax / "images/id_aa/Study_2/Series_1").mkdir(parents=True)
    (brax / "images/id_aa/Study_2/Series_1/image-2.png").symlink_to(secret)
    changed(brax, "images/id_bb/Study_3/Series_1/image-3.png", "images/../../secret.png")
    changed(brax, "images/id_cc/Study_4/Series_1/image-4.png", str(secret))
    result, rules = harmonised(brax)
    assert result.images.available.tolist() == [True, False, False, False, False]
    assert result.images[0].resolve() == (inside / "image-1.png").resolve()
    assert rules["image-path-unsafe"].rows == 2
    assert result.cohort().images[0].shape == (1, 1, 4, 4)


def test_images_are_found_in_other_folders(tmp_path):
    folder = MAKERS["padchest"](tmp_path / "pad")
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    (folder / "1").mkdir()
    grey.save(folder / "1/201_x.png")
    grey.save(folder / "200_x.png")
    assert sources.harmonise(folder).images.available.tolist() == [True, True] + [False] * 6
    plus = MAKERS["chexpert_plus"](tmp_path / "plus")
    (plus / "PNG/train/patient42142/study5").mkdir(parents=True)
    grey.save(plus / "PNG/train/patient42142/study5/view1_frontal.png")
    assert sources.harmonise(plus).images.available.tolist() == [True, False, False, False]


def test_same_radiographs_are_not_combined_twice(tmp_path):
    from causalcxr.sources.harmonised import combined

    both = [
        sources.harmonise(MAKERS[name](tmp_path / name)) for name in ("chexpert", "chexpert_plus")
    ]
    with pytest.raises(CohortError, match="both hold the radiographs of CheXpert-Plus"):
        combined(both)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"uncertain": "u_one"}, r"uncertain='u_one'; one of raw, .*did you mean 'u_ones'\?"),
        ({"uncertainty": "raw"}, r"no decision 'uncertainty'; did you mean 'uncertain'\?"),
        ({"blank": None}, "blank='None'; one of raw"),
    ],
)
def test_invalid_policy_is_refused(given, message):
    with pytest.raises(CohortError, match=message):
        Policy.parse(given)


@given(content=st.binary(max_size=200))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", ["brax", "rexgradient", "chexpert_plus"])
def test_any_bytes_give_rows_or_a_named_error(tmp_path, name, content):
    folder = tmp_path / name
    if not folder.exists():
        MAKERS[name](folder)
    file = {
        "brax": "master_spreadsheet_update.csv",
        "rexgradient": "metadata/train_metadata_view_position.json",
        "chexpert_plus": "chexbert_labels/impression_fixed.json",
    }[name]
    (folder / file).write_bytes(content)
    try:
        sources.harmonise(folder, name=name)
    except CohortError as error:
        assert "\n" not in str(error)  # noqa: PT017
