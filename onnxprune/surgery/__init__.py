"""Turn a plan into a smaller model, and prove that it is the original with channels removed."""
