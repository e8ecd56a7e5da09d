"""The verbs: prune, apply, sparsify, quantize, run a recipe, check, bench."""
