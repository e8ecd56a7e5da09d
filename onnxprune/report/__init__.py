"""Results as text, JSON and pictures; nothing is measured here."""
