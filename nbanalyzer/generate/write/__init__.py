"""From observations and formulas to a model template."""
