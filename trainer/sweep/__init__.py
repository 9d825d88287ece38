"""Many runs: a grid or a search, the processes that do it, and the table it ends in."""
