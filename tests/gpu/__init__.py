"""Everything that needs a GPU, tried in a few minutes: ``python -m tests.gpu``."""
