"""Export of synthetic images as DICOM or PNG, under pseudonyms."""

__all__: list[str] = []
