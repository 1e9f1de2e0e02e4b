"""Accuracy and speed of the statistics of the audit."""
