"""The real model: how transformers builds it on the meta device, and how it is run."""
