"""Turn results into text, JSON and pictures; nothing is measured here."""
