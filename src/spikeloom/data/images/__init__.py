"""Pictures: decoded and cut to one size, changed in whole batches."""
