"""Tune all layers together to the outputs of the original: gradients, losses, schedule."""
