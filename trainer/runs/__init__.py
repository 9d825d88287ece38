"""Run directories: write, read and resume them. Only ``environment`` imports torch."""
