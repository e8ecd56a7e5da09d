"""Find which channels can only go together, what each group costs, and the role of every weight."""
