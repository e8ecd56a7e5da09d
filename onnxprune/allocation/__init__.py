"""Errors and costs of widths in, widths out."""
