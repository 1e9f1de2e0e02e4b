"""A store as a source of cohorts; see `causalcxr.sources.store`."""

from causalcxr.sources.store.reading import load, recognises

__all__ = ["load", "recognises"]
