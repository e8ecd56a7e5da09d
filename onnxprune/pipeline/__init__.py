"""Carry out the commands: prune, apply, sparsify, quantize, run a recipe, check, bench."""
