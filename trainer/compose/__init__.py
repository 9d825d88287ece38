"""Turn the overrides of a command into checked jobs: compose YAML files with Hydra, check every key. No torch."""
