"""A store, as a source of cohorts; see `causalcxr.store`."""

from causalcxr.store.reading import load, recognises

__all__ = ["load", "recognises"]
