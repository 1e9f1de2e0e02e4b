"""The Hannover COVID-19 image repository: a complete example of a new data set.

To add a data set, copy this file under a new name and change the declaration: the table and its
columns, the reader of each variable, and the place of the images. The module's name is the name
of the data set. A variable that is not declared here is missing.

References:
    Winther et al., COVID-19 image repository (Hannover Medical School, 2020),
    doi:10.6084/m9.figshare.12275009, CC BY 3.0.
"""

from causalcxr.sources.age_reader import age
from causalcxr.sources.image_paths import ImageFiles
from causalcxr.sources.source import Source, Table
from causalcxr.sources.variable_readers import sex, view

__all__ = ["SOURCE", "harmonise", "load", "recognises"]

SOURCE = Source(
    name="hannover",
    dataset="Hannover",  # the category of the graph's variable Dataset
    cite="Winther et al., doi:10.6084/m9.figshare.12275009, CC BY 3.0",
    tables=(
        Table(
            files=("metadata.csv",),
            columns=("image_id", "patient_id", "sex", "age", "view", "covid19"),
            optional=("admission_offset",),
        ),
    ),
    record="image_id",
    patient="patient_id",
    variables={
        "View": view("view", {"AP": "AP", "PA": "PA"}),
        "Sex": sex("sex"),
        "Age": age("age"),
    },
    # COVID-19 is diagnosed by a swab: the radiograph may show a pneumonia or not. The column is
    # kept as it is, and no finding is read from it.
    extras={"covid19": "covid19", "admission_offset": "days_since_admission"},
    images=ImageFiles("image_id", folders=("images_*", "png", "images"), suffixes=(".png",)),
)

recognises, harmonise, load = SOURCE.recognises, SOURCE.harmonise, SOURCE.load
