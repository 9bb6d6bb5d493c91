"""The call: how tensors lie in memory, and the buffers that a kernel reads and fills."""
