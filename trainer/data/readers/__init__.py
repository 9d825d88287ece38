"""From a file to raw samples: images, sounds, texts, tables, arrays, sets of the Hugging Face hub."""
