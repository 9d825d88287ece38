"""From the words of a command to checked jobs: Hydra composes the YAML files, every key is checked. No torch."""
