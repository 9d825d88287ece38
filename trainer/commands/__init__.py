"""The command ``trainer``: what looks at data before a run, and at runs afterwards."""
