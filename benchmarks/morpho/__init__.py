"""Morpho-MNIST with its published equations and simulated strokes: a second known image model.

References:
    Deep Structural Causal Models for Tractable Counterfactual Inference (Pawlowski et al.),
    arXiv:2006.06485: the equations of thickness and intensity.
    Morpho-MNIST: Quantitative Assessment and Diagnostics for Representation Learning (Castro et
    al.), arXiv:1809.10780: the definition and the measurement of thickness.
"""
