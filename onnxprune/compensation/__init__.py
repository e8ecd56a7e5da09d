"""What stays makes up for what goes: least squares, merging, distillation."""
