"""A template and a run become exact numbers, and formulas again."""
