"""`causalcxr export`: synthetic images for others."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import OutputOptions

__all__ = ["ExportOptions", "export"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions(OutputOptions):
    """Which images, in which format, under which identifiers."""

    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Twins that `counterfactual` wrote, or a saved cohort of phantoms or samples.",
        ),
    ]
    format: Annotated[
        str, typer.Option(help="dicom (Secondary Capture) or png (with a visible mark).")
    ] = "dicom"
    key: Annotated[
        Path | None,
        typer.Option(
            help="A secret file of at least 16 random bytes: the same key gives the same "
            "identifiers."
        ),
    ] = None
    link: Annotated[
        Path | None,
        typer.Option(help="Also write the identifiers of each record to this .csv."),
    ] = None
    sources: Annotated[
        Path | None,
        typer.Option(
            help="A .csv (record, sop_class_uid, sop_instance_uid): where the link is allowed, "
            "each image names its source."
        ),
    ] = None
    checked: Annotated[
        bool, typer.Option("--checked", help="A person found no writing in the pixels.")
    ] = False


def export(options: ExportOptions) -> None:
    """Write synthetic images as DICOM or marked PNG, with provenance and without identifiers.

    The same command resumes an interrupted run.
    """
    from causalcxr.apps.export.exporting import ExportSettings
    from causalcxr.apps.export.exporting import export as write_images
    from causalcxr.common.progress import resumable

    out = options.out
    settings = ExportSettings(
        options.format, options.key, options.link, options.sources, options.checked
    )
    with resumable(f"the images so far are beside {out}"):
        index = write_images(options.source, out, settings, overwrite=options.overwrite)
    print(f"{out}: {len(index):,} synthetic images of {index['patient'].nunique():,} patients")
    for line in json.loads((out / "manifest.json").read_text(encoding="utf-8"))["not_exported"]:
        print(line)
