"""GPU kernels: a traced step as Triton functions, and their launches."""
