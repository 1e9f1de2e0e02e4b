"""`causalcxr export`: synthetic images for others."""

import json
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import Out, Overwrite
from causalcxr.common.progress import resumable

__all__ = ["export"]


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Twins that `counterfactual` wrote, or a saved cohort of phantoms or samples.",
        ),
    ],
    out: Out,
    format: Annotated[
        str, typer.Option(help="dicom (Secondary Capture) or png (with a visible mark).")
    ] = "dicom",
    key: Annotated[
        Path | None,
        typer.Option(help="A secret file of 16 random bytes or more: the same identifiers again."),
    ] = None,
    link: Annotated[
        Path | None, typer.Option(help="Write which record got which identifiers to this .csv.")
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="A .csv (record, sop_class_uid, sop_instance_uid): where the link is allowed, "
            "each image names its source."
        ),
    ] = None,
    checked: Annotated[
        bool, typer.Option("--checked", help="A person found no writing in the pixels.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write synthetic images as DICOM or marked PNG, with provenance and without identifiers.

    A command that was interrupted goes on where it stopped when it is given again.
    """
    from causalcxr.apps.export.exporting import ExportOptions
    from causalcxr.apps.export.exporting import export as write

    options = ExportOptions(format, key, link, sources, checked)
    with resumable(f"the images so far are beside {out}"):
        index = write(source, out, options, overwrite=overwrite)
    print(f"{out}: {len(index):,} synthetic images of {index['patient'].nunique():,} patients")
    for line in json.loads((out / "manifest.json").read_text(encoding="utf-8"))["not_exported"]:
        print(line)
