"""Time as the budget: what groups cost on this machine, and plans that meet a target there."""
