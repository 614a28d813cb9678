"""What people ask of one pass or request: numbers, times, memory, comparisons, inverse questions."""
