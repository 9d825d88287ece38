"""Texts in tables, files and folders, and their tokens."""
