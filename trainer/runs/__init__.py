"""Run directories: written, read back, resumed. No torch but in environment."""
