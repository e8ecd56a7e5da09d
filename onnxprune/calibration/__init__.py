"""Read samples, and gather statistics of activations: measured, or estimated without samples."""
