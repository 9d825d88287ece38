"""Several processes: who they are, how they start, meet, agree and end."""
