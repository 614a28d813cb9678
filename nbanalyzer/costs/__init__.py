"""A template and a run: exact numbers, and their formulas."""
