"""The versions that a manifest records."""

import platform
from importlib.metadata import version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Return the versions that a manifest records."""
    packages = {name: version(name) for name in ("causalcxr", "torch", "zuko", "numpy")}
    return {**packages, "python": platform.python_version()}
