"""The phantom cohort: thoraces in three dimensions whose true counterfactuals are known.

`population` draws the variables by the `laws` and numbers of `tables`, `recording` writes them
down, `body` builds a thorax from them, `physics` follows the rays through it, `film` turns
attenuation into grey levels. `images` keeps the films, and `cohort` puts all of it behind
`Cohort.load("phantom")` and gives the `truth` of an intervention. A `World` says which graph the
equations have, which biases are planted and whether values are missing; `planted_effects` tells
how large they are.
"""

from causalcxr.sources.phantom.bias import planted_effects
from causalcxr.sources.phantom.cohort import exogenous, load, recognises, truth
from causalcxr.sources.phantom.images import PhantomImages
from causalcxr.sources.phantom.world import World

__all__ = [
    "PhantomImages",
    "World",
    "exogenous",
    "load",
    "planted_effects",
    "recognises",
    "truth",
]
