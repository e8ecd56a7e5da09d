"""Adjust what stays to make up for what goes: least squares, merging, distillation."""
