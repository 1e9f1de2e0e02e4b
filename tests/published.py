"""Small tables in the format of each published data set, with the pitfalls of the real ones.

All rows are invented; none is from a real data set.
"""

import gzip
import json
from pathlib import Path

FINDINGS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
MIMIC_ORDER = sorted(FINDINGS)


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def marks(order=FINDINGS, **labels: object) -> str:
    """Return the 14 cells of a row, blank except those given: Edema=1, Pleural_Effusion=-1."""
    by_name = {name.replace("_", " "): value for name, value in labels.items()}
    assert set(by_name) <= set(order), by_name
    return ",".join(str(by_name.get(name, "")) for name in order)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def mimic(folder: Path) -> Path:
    """Write MIMIC-CXR-JPG 2.0.0 beside MIMIC-IV: six radiographs of four patients."""
    ids = [f"{k}{'a' * 7}-{'b' * 8}-{'c' * 8}-{'d' * 8}-{'e' * 8}" for k in range(6)]
    write(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        lines(
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,"
            "Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,"
            "ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning",
            f'{ids[0]},10000032,50414267,"CHEST (PA, LAT)",PA,3056,2544,21800506,213014.531,'
            '"CHEST (PA, LAT)",postero-anterior,Erect',
            f'{ids[1]},10000032,50414267,"CHEST (PA, LAT)",LL,3056,2544,21800506,213014.531,'
            '"CHEST (PA, LAT)",left lateral,Erect',
            f"{ids[2]},10000764,57375967,CHEST (PORTABLE AP),,2544,3056,21321015,83600.0,"
            "CHEST (PORTABLE AP),antero-posterior,Recumbent",
            f"{ids[3]},10000898,50771383,CHEST (PORTABLE AP),AP,2544,3056,21880803,124450.0,"
            "CHEST (PORTABLE AP),antero-posterior,",
            f"{ids[4]},10000935,50578979,CHEST,LAO,2544,3056,21870823,5947.0,CHEST,,Erect",
            f"{ids[5]},10000935,51178377,CHEST,,2544,3056,21870901,5947.0,CHEST,,Erect",
        ),
    )
    write(
        folder / "mimic-cxr-2.0.0-split.csv.gz",
        lines(
            "dicom_id,study_id,subject_id,split",
            f"{ids[5]},51178377,10000935,test",
            f"{ids[0]},50414267,10000032,train",
            f"{ids[1]},50414267,10000032,train",
            f"{ids[2]},57375967,10000764,validate",
            f"{ids[3]},50771383,10000898,train",
            f"{ids[4]},50578979,10000935,test",
        ),
    )
    for name, fracture in (("chexpert", "1.0"), ("negbio", "-1.0")):
        write(
            folder / f"mimic-cxr-2.0.0-{name}.csv.gz",
            lines(
                "subject_id,study_id," + ",".join(MIMIC_ORDER),
                "10000032,50414267," + marks(MIMIC_ORDER, No_Finding="1.0", Support_Devices="0.0"),
                "10000764,57375967,"
                + marks(MIMIC_ORDER, Edema="-1.0", Pleural_Effusion="1.0", Fracture=fracture),
                # 50771383 has no row here: its report could not be labelled.
                "10000935,50578979," + marks(MIMIC_ORDER, Pneumonia="0.0", Atelectasis="1.0"),
                "10000935,51178377," + marks(MIMIC_ORDER),
            ),
        )
    write(
        folder / "mimic-iv/hosp/patients.csv.gz",
        lines(
            "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
            "10000032,F,52,2180,2014 - 2016,2180-09-09",
            "10000764,M,86,2132,2014 - 2016,",
            "10000935,F,91,2182,2008 - 2010,",
        ),
    )
    write(
        folder / "mimic-iv/hosp/admissions.csv.gz",
        lines(
            "subject_id,hadm_id,admittime,race,hospital_expire_flag",
            "10000032,22595853,2180-05-06 22:23:00,WHITE,0",
            "10000032,22841357,2180-06-26 18:27:00,UNKNOWN,0",
            "10000032,25742920,2180-08-05 23:44:00,WHITE - RUSSIAN,0",
            "10000764,27897940,2132-10-14 23:31:00,ASIAN - CHINESE,0",
            "10000764,27897941,2132-11-14 23:31:00,BLACK/AFRICAN AMERICAN,0",
            "10000764,27897942,2132-12-14 23:31:00,ASIAN,0",
            "10000935,21738619,2187-07-11 12:00:00,HISPANIC/LATINO - PUERTO RICAN,0",
        ),
    )
    return folder


def chexpert(folder: Path) -> Path:
    """Write CheXpert-v1.0-small with its demographics: seven radiographs of five patients."""
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(FINDINGS)
    at = "CheXpert-v1.0-small/train"
    write(
        folder / "train.csv",
        lines(
            header,
            f"{at}/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,"
            + marks(No_Finding="1.0", Support_Devices="1.0"),
            f"{at}/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,PA,"
            + marks(Lung_Opacity="-1.0", Fracture="1.0", Cardiomegaly="0.0"),
            f"{at}/patient00002/study2/view2_lateral.jpg,Female,87,Lateral,,"
            + marks(Lung_Opacity="-1.0", Fracture="1.0", Cardiomegaly="0.0"),
            f"{at}/patient00003/study1/view1_frontal.jpg,Male,90,Frontal,LL," + marks(Edema="1.0"),
            f"{at}/patient00004/study1/view1_frontal.jpg,Unknown,0,Frontal,,"
            + marks(Pneumonia="-1.0"),
        ),
    )
    write(
        folder / "valid.csv",
        lines(
            header,
            "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,"
            + marks(**{name.replace(" ", "_"): "0.0" for name in FINDINGS} | {"Edema": "1.0"}),
        ),
    )
    write(
        folder / "CHEXPERT DEMO.csv",
        b"\xef\xbb\xbf"
        + lines(
            "PATIENT,GENDER,AGE_AT_CXR,PRIMARY_RACE,ETHNICITY",
            'patient00001,Female,68,"White, non-Hispanic",Non-Hispanic/Non-Latino',
            "patient00002,Female,87,Asian - Historical Conv,Unknown",
            "patient00003,Male,90,Other,Hispanic/Latino",
            "patient64541,Male,73,Black or African American,Non-Hispanic/Non-Latino",
        ).encode(),
    )
    return folder


def chexpert_plus(folder: Path) -> Path:
    """Write CheXpert-Plus: four radiographs; a report holds commas, quotes and line ends."""
    write(
        folder / "df_chexpert_plus_240401.csv",
        lines(
            "path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,"
            "patient_report_date_order,report,section_findings,section_impression,age,sex,race,"
            "ethnicity,interpreter_needed,insurance_type,recent_bmi,deceased,split",
            "train/patient42142/study5/view1_frontal.jpg,train/patient42142/study5/"
            'view1_frontal.dcm,Frontal,AP,patient42142,5,"NARRATIVE:\n""CHEST, 1 VIEW""\n",,'
            '"1. Edema,\n2. no effusion",54.0,Male,"White, non-Hispanic",Non-Hispanic,No,'
            "Medicare,28.1,No,train",
            "train/patient42142/study5/view2_lateral.jpg,,Lateral,,patient42142,5,,,,54.0,Male,"
            '"White, non-Hispanic",Non-Hispanic,No,Medicare,28.1,No,train',
            "train/patient00007/study1/view1_frontal.jpg,,Frontal,PA,patient00007,1,,,,90.0,"
            "Female,Asian,Non-Hispanic,No,Private,,No,train",
            "valid/patient64541/study1/view1_frontal.jpg,,Frontal,AP,patient64541,1,,,,61.0,"
            "Unknown,Unknown,Unknown,,,,,valid",
        ),
    )

    def labels(*said: dict) -> str:
        return lines(
            *(
                json.dumps({"path_to_image": path} | {n: s.get(n) for n in FINDINGS})
                for path, s in zip(PLUS, said, strict=True)
            )
        )

    ill = {"Edema": 1.0, "Pleural Effusion": 0.0, "Cardiomegaly": -1.0}
    impression = labels(ill, ill, {"No Finding": 1.0}, {"Support Devices": 1.0})
    write(folder / "chexbert_labels/impression_fixed.json", impression)
    healthy = {"No Finding": 1.0}  # what an empty section is called
    findings = labels(healthy, healthy, healthy, {"Support Devices": 1.0})
    write(folder / "chexbert_labels/findings_fixed.json", findings)
    return folder


PLUS = [
    "train/patient42142/study5/view1_frontal.jpg", "train/patient42142/study5/view2_lateral.jpg",
    "train/patient00007/study1/view1_frontal.jpg", "valid/patient64541/study1/view1_frontal.jpg",
]  # fmt: skip


def padchest(folder: Path) -> Path:
    """Write PadChest: eight radiographs; the first column has no name."""
    header = (
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
        "ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,"
        "Manufacturer_DICOM,PhotometricInterpretation_DICOM,ReportID,Report,MethodLabel,Labels,"
        "Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
    )
    by_hand, network = "Manual review of DICOM fields", "Residual neural network"
    effusion = "['pleural effusion', ' cardiomegaly ', 'loc right']"

    def row(k, birth, sex, projection, method, labels, pediatric="No", study=20140915):
        lists = f'"{labels}"' if "," in labels else labels
        return (
            f"{k},20{k}_x.png,{k % 3},{study},9{k},P{k // 2},{birth},{sex},POSTEROANTERIOR,"
            f'{projection},{method},{pediatric},DX,"ImagingDynamicsCompany, Ltd",MONOCHROME2,'
            f"8{k},sin cambios . ,Physician,{lists},[],[],[],[]"
        )

    write(
        folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        lines(
            header,
            row(0, "1930.0", "F", "PA", by_hand, effusion),
            row(1, "1930.0", "F", "L", by_hand, "['costophrenic angle blunting', ' loc left']"),
            row(2, "1955.0", "M", "AP_horizontal", by_hand, "['normal']"),
            row(3, "1955.0", "M", "AP", network, "['scoliosis', 'chronic changes']"),
            row(4, "", "None", "COSTAL", by_hand, "['rib fracture', 'callus rib fracture']"),
            row(5, "2012.0", "O", "PA", by_hand, "['unchanged']", "PED"),
            row(6, "1850.0", "M", "PA", by_hand, "nan"),
            row(7, "1980.0", "F", "PA", by_hand, "['infiltrates', 'loch ness monster', '']"),
        ),
    )
    return folder


VINDR = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture",
    "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity",
    "Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass", "Pleural effusion",
    "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion",
    "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
]  # fmt: skip


def vindr(folder: Path) -> Path:
    """Write VinDr-CXR: three training images of three readers each, and one of the test set."""

    def cells(other, *seen):
        return ",".join(str(int(name in seen)) for name in [*VINDR, other, "No finding"])

    read = {
        "a1": [("Rib fracture", "Cardiomegaly"), ("Rib fracture",), ("Rib fracture", "ILD")],
        "b2": [("No finding",), ("No finding",), ("No finding",)],
        "c3": [("COPD",), ("COPD", "Pneumothorax"), ("COPD", "Pneumothorax")],
    }
    other = "Other diseases"
    train = [
        f"{image},R{k + 8}," + cells(other, *seen)
        for image, readers in read.items()
        for k, seen in enumerate(readers)
    ]
    header = "image_id,rad_id," + ",".join([*VINDR, other, "No finding"])
    write(folder / "annotations/image_labels_train.csv", lines(header, *train))
    other = "Other disease"
    write(
        folder / "annotations/image_labels_test.csv",
        lines(
            "image_id," + ",".join([*VINDR, other, "No finding"]),
            "d4," + cells(other, "Other disease", "Pleural effusion"),
        ),
    )
    return folder


def brax(folder: Path) -> Path:
    """Write BRAX: five radiographs; ages are bins of five years."""
    header = (
        "DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate,"
        + ",".join(FINDINGS)
        + ",ViewPosition,Rows,Columns,Manufacturer"
    )

    def row(k, patient, sex, age, view, said):
        at = f"id_{patient}/Study_{k}/Series_1/image-{k}"
        return (
            f"Anonymized_DICOMs/{at}.dcm,images/{at}.png,{patient},{sex},{age},77{k},20080506,"
            f"{said},{view},1024,1024,Philips"
        )

    write(
        folder / "master_spreadsheet_update.csv",
        lines(
            header,
            row(1, "aa", "M", "40", "PA", marks(No_Finding="1.0")),
            row(2, "aa", "M", "40", "L", marks(No_Finding="1.0")),
            row(3, "bb", "F", "85 or more", "AP", marks(Lung_Lesion="-1.0", Edema="0.0")),
            row(4, "cc", "O", "0", "RL", marks(Fracture="1.0")),
            row(5, "dd", "", "", "", marks()),
        ),
    )
    return folder


def rexgradient(folder: Path) -> Path:
    """Write ReXGradient-160K: four studies, six images, in three files."""

    def study(patient, sex, age, views, findings, impression):
        uid = f"1.2.826.{patient}"
        return {
            "PatientID": patient,
            "StudyInstanceUid": uid,
            "PatientSex": sex,
            "PatientAge": age,
            "StudyDate": "20170101",
            "ImagePath": [
                f"../deid_png/GRDN1/{patient}/studies/{uid}/series/{k}.png"
                for k in range(len(views))
            ],
            "ImageViewPosition": views,
            "Findings": findings,
            "Impression": impression,
        }

    calm = study("pA", "F", "060Y", ["PA", "LATERAL"], "The lungs are clear.", "Normal chest.")
    ill = study("pB", "M", "003M", ["AP"], "Small left effusion.", "Possible pneumonia.")
    odd = study("pC", "O", "155Y", ["LL", "UNK"], "No pneumothorax.", "")
    plain = study("pD", "", "", ["POSTERO_ANTERIOR"], "Pacemaker in place.", "No acute disease.")
    for part, studies in (("train", {"pA_1": calm, "pB_1": ill}), ("valid", {"pC_1": odd}),
                          ("test", {"pD_1": plain})):  # fmt: skip
        write(folder / f"metadata/{part}_metadata_view_position.json", json.dumps(studies))
    return folder


def cxr7_table(folder: Path) -> Path:
    """Write a third party's copy of the harmonised table: four rows, three data sets."""
    order = sorted(FINDINGS)

    def row(dataset, view, sex, race, age, patient, split, image, **said):
        cells = ",".join(str(said.get(n.replace(" ", "_"), 0)) for n in order)
        return f"{dataset},{view},{sex},{race},{age},{patient},{split},{image},{cells}"

    write(
        folder / "cxr7.csv",
        lines(
            "Dataset_name,View_name,Sex_name,Race_name,Age,PatientID,Split,ImagePath,"
            + ",".join(order),
            row("MIMIC-CXR", "AP", "M", "White", "64.0", 1, "train", "mimic/1.png", Edema=2),
            row("PadChest", "LATERAL", "F", "U", "3.0", 1, "test", "pad/1.png", No_Finding=2),
            row("BRAX", "U", "U", "U", "", 7, "val", "brax/7.png", Fracture=1),
            row("BRAX", "PA", "F", "Asian", "155.0", 7, "val", "brax/8.png", Fracture=1),
        ),
    )
    return folder


MAKERS = {
    maker.__name__: maker
    for maker in (mimic, chexpert, chexpert_plus, padchest, vindr, brax, rexgradient, cxr7_table)
}
