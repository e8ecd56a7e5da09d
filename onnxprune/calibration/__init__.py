"""Samples, and statistics of activations: measured on them, or estimated without any."""
