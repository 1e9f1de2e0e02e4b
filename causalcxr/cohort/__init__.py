"""Cohorts: records with their radiographs, their selection, comparison and saved folders."""

from causalcxr.cohort.cohort import Cohort

__all__ = ["Cohort"]
