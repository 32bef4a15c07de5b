"""Runs a firmware image for a target, and measures it. Knows nothing of graphs."""
