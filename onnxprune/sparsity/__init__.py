"""Set single weights to zero: patterns, masks, and refitting of the weights that stay."""
