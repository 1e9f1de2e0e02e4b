"""The phantom cohort: thoraces in three dimensions whose true counterfactuals are known.

Four steps, one file each: `population` draws the variables, `body` builds a thorax from them,
`physics` follows the rays through it, `film` turns attenuation into grey levels. `cohort` puts
them behind `Cohort.load("phantom")` and gives the `truth` of an intervention.

This first thorax shows sex, age, view, cardiomegaly, an enlarged mediastinum, pleural effusion,
support devices and the exposure of the data set. The other findings, and race, are variables of
the population and do not reach the picture.
"""

from causalcxr.sources.phantom.cohort import PhantomImages, load, recognises, truth

__all__ = ["PhantomImages", "load", "recognises", "truth"]
