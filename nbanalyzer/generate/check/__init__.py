"""A template beside PyTorch: equal, or where not."""
