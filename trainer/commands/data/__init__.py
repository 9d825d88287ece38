"""``trainer data``: check a data set before training."""
