"""Flax layers around the pure core: norms, placements, attention, blocks."""
