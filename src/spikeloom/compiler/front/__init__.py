"""The step: what the compiler is given, and the two graphs that it becomes."""
