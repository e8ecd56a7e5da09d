"""Single weights set to zero: what goes, what the others become, how it is stored."""
