"""Runs with several processes: their start, connections, messages, signals and end."""
