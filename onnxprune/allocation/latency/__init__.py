"""Time as a cost: what groups take on this machine, and widths that meet a latency."""
