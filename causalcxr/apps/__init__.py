"""The programs: command line, explorer, reader study, training, export."""

__all__: list[str] = []
