"""Targets, error tables and cost tables in, the width of every group out."""
