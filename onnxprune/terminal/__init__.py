"""Show reports, progress and help on a terminal; a pipe gets plain text."""
