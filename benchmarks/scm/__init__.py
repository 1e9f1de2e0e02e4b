"""Accuracy and speed of tabular counterfactuals where the truth is known; see README.md."""
