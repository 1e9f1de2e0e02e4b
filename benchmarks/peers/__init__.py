"""Peers of RadiT as an image's structural equation, with equal size and training.

Each is a network, a loss, and an equation that abducts noise from an image given its parents and
predicts an image from noise given other parents, as `causalcxr.mechanisms.image_equation` does.
"""
