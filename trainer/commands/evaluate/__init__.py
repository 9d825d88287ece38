"""``trainer evaluate``: measure a run on any split or data set."""
