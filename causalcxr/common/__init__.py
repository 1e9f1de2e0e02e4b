"""What every package stands on and what knows no domain: files, folders of results, parallel work."""

__all__: list[str] = []
