"""Sweeps: many runs of a grid or a search, the processes that execute the runs, and the table of results."""
