"""A plan becomes a smaller model, and the proof that it is the original with channels removed."""
