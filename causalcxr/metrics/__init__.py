"""Metrics: axioms, counterfactual truth, fidelity, nearness to training images, raters.

Plain functions of arrays: feature vectors (n, d), images (n, 1, H, W) between 0 and 1, outputs of
predictors; they need neither a model nor a cohort. With vectors of Rad-DINO the Frechet and the
kernel distance are called FDD and KDD.
"""

from causalcxr.metrics.agreement import Agreement, agreement_table, cohen_kappa, fleiss_kappa
from causalcxr.metrics.axioms import (
    amplification,
    composition_errors,
    effectiveness,
    output_change,
    reversibility_errors,
    target_errors,
)
from causalcxr.metrics.bootstrap import Interval, mean_interval, summary
from causalcxr.metrics.extract import PREPROCESSING, chexgenbench, extract, feature_batches
from causalcxr.metrics.fidelity import Fidelity, fidelity
from causalcxr.metrics.frechet import Moments, frechet, frechet_of
from causalcxr.metrics.kernel import KernelSubsets, kernel, kernel_subsets
from causalcxr.metrics.minimality import identity_kept, latent_divergence
from causalcxr.metrics.nearest import Nearness, membership_auroc, nearness
from causalcxr.metrics.neighbours import Neighbours, neighbours, others
from causalcxr.metrics.prdc import PRDC, prdc
from causalcxr.metrics.similarity import SIMILARITIES, feature_distance, l1, psnr, rmse, ssim
from causalcxr.metrics.truth import truth_errors, truth_table

__all__ = [
    "PRDC",
    "PREPROCESSING",
    "SIMILARITIES",
    "Agreement",
    "Fidelity",
    "Interval",
    "KernelSubsets",
    "Moments",
    "Nearness",
    "Neighbours",
    "agreement_table",
    "amplification",
    "chexgenbench",
    "cohen_kappa",
    "composition_errors",
    "effectiveness",
    "extract",
    "feature_batches",
    "feature_distance",
    "fidelity",
    "fleiss_kappa",
    "frechet",
    "frechet_of",
    "identity_kept",
    "kernel",
    "kernel_subsets",
    "l1",
    "latent_divergence",
    "mean_interval",
    "membership_auroc",
    "nearness",
    "neighbours",
    "others",
    "output_change",
    "prdc",
    "psnr",
    "reversibility_errors",
    "rmse",
    "ssim",
    "summary",
    "target_errors",
    "truth_errors",
    "truth_table",
]
