"""``trainer predict``: predict new files with a run."""
