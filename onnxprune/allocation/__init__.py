"""Choose the width of every group from targets, error tables and cost tables."""
