"""What a fitted model can be asked: one question a module."""

__all__: list[str] = []
