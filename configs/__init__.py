"""The YAML files; this file makes the folder the package ``trainer.configs`` in the wheel."""
