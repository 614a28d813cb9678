"""From observed sizes to formulas."""
