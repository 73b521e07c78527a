"""Training as its own process: ``python -m hmar.train``."""
