"""Measure what groups cost in time on this machine, and find widths that meet a latency."""
