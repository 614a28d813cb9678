"""What needs PyTorch: the real transformers models on the meta device, and what they are seen to cost.

Nothing else in the package imports torch, and nothing here allocates a weight, but for models whose code needs data:
they are made tiny, and run on the CPU.
"""

from .api import calibrate, count_parameters, generate, verify

__all__ = ["calibrate", "count_parameters", "generate", "verify"]
