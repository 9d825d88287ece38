"""``trainer report``: write one page about a run."""
