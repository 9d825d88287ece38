"""Tables: their forms, their header, and their columns of numbers, texts, targets and splits."""
