"""Let a model look at less of its input: a crop or a smaller size as its first operator."""
