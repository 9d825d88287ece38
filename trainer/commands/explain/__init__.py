"""``trainer explain``: attribute a prediction to the parts of the input."""
