"""The command line: one module of commands for each group."""

__all__: list[str] = []
