"""``trainer reproduce``: repeat a run, and compare the results."""
