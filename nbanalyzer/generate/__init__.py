"""What needs PyTorch: the real transformers models on the meta device, and what they are seen to cost.

Nothing else in the package imports torch. Nothing here allocates a weight, but for models whose code needs data, which
are made tiny and run on the CPU; and to measure how long kernels take on this machine.
"""

from .api import DEVICES, SECONDS, calibrate, count_parameters, generate, verify

__all__ = ["DEVICES", "SECONDS", "calibrate", "count_parameters", "generate", "verify"]
