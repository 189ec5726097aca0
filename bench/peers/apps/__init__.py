"""The peers' own small servers. Each module runs in its peer's environment, which `environments.py` makes."""
