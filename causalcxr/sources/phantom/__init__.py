"""The phantom: thoraces in three dimensions whose true counterfactuals are known.

`population` draws the variables from the `distributions` with the numbers of `tables`,
`recording` turns them into labels with errors and gaps, `body` builds a thorax, `physics` computes
the attenuation along the rays, and `rendering` turns it into grey levels. `images` holds the
images, and `cohort` has `Cohort.load("phantom")` and the `truth` of an intervention;
`possible_twins` has other twins that the factual radiograph allows. A `World` chooses the graph of
the equations, the planted biases and whether values are missing; `planted_effects` returns the
true sizes of the biases.
"""

from causalcxr.sources.phantom.bias import planted_effects
from causalcxr.sources.phantom.cohort import exogenous, load, recognises, truth
from causalcxr.sources.phantom.images import PhantomImages
from causalcxr.sources.phantom.possible import possible_twins
from causalcxr.sources.phantom.world import World

__all__ = [
    "PhantomImages",
    "World",
    "exogenous",
    "load",
    "planted_effects",
    "possible_twins",
    "recognises",
    "truth",
]
