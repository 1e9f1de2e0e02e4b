"""Shared foundations that know no domain: errors, files, folders of results, parallel work."""

__all__: list[str] = []
