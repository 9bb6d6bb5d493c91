"""CPU kernels: a traced step as numba functions, and their calls."""
