"""Radiographs as lazy arrays: decoding PNG, JPEG and DICOM, writing DICOM, the synthetic mark."""

__all__: list[str] = []
