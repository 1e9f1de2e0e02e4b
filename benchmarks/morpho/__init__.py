"""Morpho-MNIST with its published equations, drawn by us: a second image world with truth.

References:
    Deep Structural Causal Models for Tractable Counterfactual Inference (Pawlowski et al.),
    arXiv:2006.06485: the equations of thickness and intensity.
    Morpho-MNIST: Quantitative Assessment and Diagnostics for Representation Learning (Castro et
    al.), arXiv:1809.10780: what thickness is, and how it is measured.
"""
