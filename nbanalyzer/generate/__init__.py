"""What needs PyTorch: the real transformers models on the meta device, and what they are seen to cost.

Nothing else in the package imports torch, and nothing here allocates a weight.
"""
