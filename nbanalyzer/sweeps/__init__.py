"""A metric over a grid: compiled once, in memory or in chunks, reduced."""
