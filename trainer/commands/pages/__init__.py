"""Shared parts of the HTML pages: templates, a style sheet, plots and drawings."""
