"""Read files as raw samples: pictures, sounds, texts, tables, arrays, and data sets of the Hugging Face Hub."""
