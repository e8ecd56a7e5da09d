"""Run independent tasks in other processes, with what they need in files."""
