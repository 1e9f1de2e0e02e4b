"""The questions that a fitted model answers, one per module."""

__all__: list[str] = []
