"""Single weights: patterns, masks, and the weights that make up for them."""
