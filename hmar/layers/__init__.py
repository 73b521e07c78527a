"""Parts that several models share, on packed tokens."""
