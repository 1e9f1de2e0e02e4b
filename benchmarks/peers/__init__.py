"""Peers of RadiT as an image's structural equation, written plainly, of equal size and training.

Each is a network, a loss, and an equation that abducts noise from an image under its parents and
predicts an image from noise under others, as `causalcxr.mechanisms.image_equation` does.
"""
