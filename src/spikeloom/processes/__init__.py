"""Several processes that train together: joining, agreeing, and batch statistics over all."""
