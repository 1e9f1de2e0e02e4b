"""The Hannover COVID-19 image repository: what a new data set takes, as an example.

A data set is one `Source`: its file, its columns, how each variable is read, where its images are.
Whatever is not declared here is not recorded there, and so it is missing.

References:
    Winther et al., COVID-19 image repository (Hannover Medical School, 2020),
    doi:10.6084/m9.figshare.12275009, CC BY 3.0.
"""

from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.source import Source, Table
from causalcxr.sources.variable_readers import age, sex, view

__all__ = ["SOURCE", "harmonise", "load", "recognises"]

SOURCE = Source(
    name="hannover",
    dataset="Hannover",
    cite="Winther et al., doi:10.6084/m9.figshare.12275009, CC BY 3.0",
    tables=(
        Table(
            ("metadata.csv",),
            ("image_id", "patient_id", "sex", "age", "view", "covid19"),
            ("admission_offset",),
        ),
    ),
    record="image_id",
    patient="patient_id",
    variables={
        "View": view("view", {"AP": "AP", "PA": "PA"}),
        "Sex": sex("sex"),
        "Age": age("age"),
    },
    # COVID-19 is a diagnosis by swab: the radiograph may show a pneumonia or none. So it is kept
    # as it is, and no finding is read from it.
    extras={"covid19": "covid19", "admission_offset": "days_since_admission"},
    images=ImageFiles(lambda rows: rows.texts("image_id") + ".png", ("images_*", "png", "images")),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
