"""Training of RadiT and its autoencoders, as the command line runs it."""

__all__: list[str] = []
