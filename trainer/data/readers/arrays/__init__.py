"""Arrays of numbers in files, and the samples that they are."""
