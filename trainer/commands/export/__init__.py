"""``trainer export``: write the model of a run for other programs."""
