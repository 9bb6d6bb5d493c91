"""How good a trained network is: splits, batches, one pass, and what it counts."""
