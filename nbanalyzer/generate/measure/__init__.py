"""How long kernels take on this machine, and the parameters of laws that say so."""
