"""Metrics over a grid: compiled once, computed in memory or in chunks, reduced."""
