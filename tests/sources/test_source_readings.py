"""What a published table writes that reads as something else: ages, labels, views, studies."""

import gzip
import json

import pytest
from published import MAKERS, lines, write

from causalcxr import sources
from causalcxr.common.errors import CohortError
from causalcxr.sources.policy import Policy


@pytest.fixture
def brax(tmp_path):
    return MAKERS["brax"](tmp_path / "brax")


def harmonised(folder, **policy):
    result = sources.harmonise(folder, Policy.parse(policy))
    return result, {rule.name: rule for rule in result.rules}


def values(result, name):
    return [None if value != value else value for value in result.table[name].astype(object)]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def padchest_of(folder, *labels, method="Manual review of DICOM fields"):
    header = (
        "ImageID,ImageDir,PatientID,PatientBirth,PatientSex_DICOM,StudyDate_DICOM,Projection,"
        "MethodProjection,Labels"
    )
    rows = [
        f"{k}.png,0,P{k},1950,F,20140915,PA,{method}," + quoted(text)
        for k, text in enumerate(labels)
    ]
    write(
        folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        "\n".join([header, *rows]) + "\n",
    )
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        r"['pleural effusion\n', 'cardiomegaly']",
        r"['pleural\xa0effusion', '\tcardiomegaly']",
        r"['\\n pleural effusion', 'loc right', 'cardiomegaly\u200b']",
        '["pleural effusion", "cardiomegaly"]',
        "['pleural effusion' 'cardiomegaly']",
        "['pleural effusion', cardiomegaly]",
        "['pleural effusion\n', 'cardiomegaly\xa0']",
        "[pleural effusion, cardiomegaly]",
    ],
)
def test_padchest_labels_with_escapes_are_not_lost(tmp_path, labels):
    result, rules = harmonised(padchest_of(tmp_path, labels))
    assert (values(result, "Pleural Effusion"), values(result, "Cardiomegaly")) == (["P"], ["P"])
    assert "label-unknown" not in rules


def test_unknown_label_makes_no_finding_negative(tmp_path):
    result, rules = harmonised(
        padchest_of(tmp_path, "['cardiomegaly', 'new word']", "['cardiomegaly']")
    )
    assert values(result, "Pleural Effusion") == [None, "N"]
    assert values(result, "Cardiomegaly") == ["P", "P"]
    assert values(result, "No Finding") == ["N", "N"]
    assert rules["label-unknown"].rows == 1
    assert "'new word'" in rules["label-unknown"].why


def test_images_set_aside_have_no_findings(tmp_path):
    folder = padchest_of(
        tmp_path, "['normal', 'exclude']", "['exclude', 'pneumonia']", "['normal']"
    )
    result, rules = harmonised(folder)
    assert values(result, "No Finding") == [None, None, "P"]
    assert values(result, "Pneumonia") == [None, None, "N"]
    assert rules["image-set-aside"].rows == 2


def test_missing_projection_method_is_not_a_guess(tmp_path):
    result, rules = harmonised(
        padchest_of(tmp_path, "['normal']", method="nan"), views_guessed="missing"
    )
    assert values(result, "View") == ["PA"]
    assert "view-guessed" not in rules


def test_removed_ages_are_missing_and_newborns_stay(tmp_path):
    ages = ["000Y", "0Y", "000D", "010D", "003M", "001Y", "060Y", "0"]
    right = [None, None, 0.0, 0.0, 0.0, 1.0, 60.0, 0.0]
    vindr = MAKERS["vindr"](tmp_path / "vindr")
    names = ["a1", "b2", "c3", "d4"]
    for part in (slice(0, 4), slice(4, 8)):
        rows = [f"{name},M,{age}" for name, age in zip(names, ages[part], strict=True)]
        write(
            vindr / "dicom_headers.csv",
            "\n".join(["image_id,PatientSex,PatientAge", *rows]) + "\n",
        )
        result, rules = harmonised(vindr)
        assert values(result, "Age") == right[part]
        assert ("age-dummy" in rules) == (part.start == 0)
        assert part.start or rules["age-dummy"].rows == 2

    nih = tmp_path / "nih"
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    rows = [f"{k}.png,No Finding,0,{k},{age},M,PA" for k, age in enumerate(ages)]
    write(nih / "Data_Entry_2017.csv", lines(header + "View Position", *rows))
    result, rules = harmonised(nih)
    assert values(result, "Age") == right
    assert rules["age-dummy"].rows == 2

    study = {"PatientSex": "F", "ImagePath": ["../deid_png/a.png"], "ImageViewPosition": ["PA"]}
    studies = {
        f"p{k}_1": {**study, "PatientAge": age, "ImagePath": [f"../deid_png/{k}.png"]}
        for k, age in enumerate(ages)
    }
    file = write(tmp_path / "rex/metadata/train_metadata_view_position.json", json.dumps(studies))
    result, rules = harmonised(file.parent.parent)
    assert values(result, "Age") == right
    assert rules["age-dummy"].rows == 2


@pytest.mark.parametrize("blank", ["nan", "NaN", "NA", " ", "None"])
def test_missing_view_is_read_from_its_code(tmp_path, blank):
    folder = MAKERS["mimic"](tmp_path)
    file = folder / "mimic-cxr-2.0.0-metadata.csv.gz"
    text = gzip.decompress(file.read_bytes()).decode()
    assert "CHEST (PORTABLE AP),,2544" in text
    write(file, text.replace("CHEST (PORTABLE AP),,2544", f"CHEST (PORTABLE AP),{blank},2544"))
    result, rules = harmonised(folder)
    assert values(result, "View")[2] == "AP"
    assert rules["view-guessed"].rows == 1
    # LAO is written: it is no view of the graph, and no gap to be filled from the code.
    assert values(result, "View")[4] is None


def test_labels_that_differ_within_a_study_are_counted(tmp_path, brax):
    folder = MAKERS["chexpert_plus"](tmp_path / "plus")
    assert "labels-differ" not in harmonised(folder)[1]
    file = folder / "chexbert_labels/impression_fixed.json"
    first, rest = file.read_text().split("\n", 1)
    file.write_text(json.dumps(json.loads(first) | {"Edema": 0.0}) + "\n" + rest)
    result, rules = harmonised(folder)
    assert rules["labels-differ"].rows == 2
    assert rules["labels-differ"].effect == "noted"
    assert values(result, "Edema")[:2] == ["N", "P"]

    chexpert = MAKERS["chexpert"](tmp_path / "chexpert")
    text = (chexpert / "train.csv").read_text()
    lateral = text.index("view2_lateral")
    changed_text = text[:lateral] + text[lateral:].replace("0.0", "1.0", 1)
    (chexpert / "train.csv").write_text(changed_text)
    assert harmonised(chexpert)[1]["labels-differ"].rows == 2
    assert "labels-differ" not in harmonised(brax)[1]


def test_missing_vote_is_refused(tmp_path):
    folder = MAKERS["vindr"](tmp_path)
    file = folder / "annotations/image_labels_train.csv"
    file.write_text(file.read_text().replace("a1,R8,0", "a1,R8,", 1))
    with pytest.raises(
        CohortError, match="'Aortic enlargement': '' is not a label; allowed: 0, 1"
    ):
        sources.harmonise(folder)


@pytest.mark.parametrize("blank", ["", "nan", "NA", "None"])
@pytest.mark.parametrize(("name", "file", "old"), [
    ("brax", "master_spreadsheet_update.csv", ",aa,M,"),
    ("chexpert_plus", "df_chexpert_plus_240401.csv", ",patient00007,1"),
])  # fmt: skip
def test_patients_without_an_id_are_refused(tmp_path, name, file, old, blank):
    folder = MAKERS[name](tmp_path)
    text, word = (folder / file).read_text(), old.split(",")[1]
    (folder / file).write_text(text.replace(old, old.replace(word, blank), 1))
    with pytest.raises(CohortError, match=r"is not an id; give the record one \(1 record\)"):
        sources.harmonise(folder)


@pytest.mark.parametrize("blank", ["", "nan", "None", "N/A"])
def test_missing_report_is_not_no_finding(tmp_path, blank):
    study = {"PatientSex": "F", "PatientAge": "060Y", "ImageViewPosition": ["PA"]}
    studies = {
        f"p{k}_1": {**study, "ImagePath": [f"../deid_png/{k}.png"], "Findings": text} | rest
        for k, (text, rest) in enumerate(
            [(blank, {"Impression": blank}), ("Clear lungs.", {"Impression": blank})]
        )
    }
    write(tmp_path / "metadata/train_metadata_view_position.json", json.dumps(studies))
    result, _ = harmonised(tmp_path, labels="reports")
    assert values(result, "No Finding") == [None, "P"]
