"""Accelerators, and what engines reach on them: figures with their sources."""
