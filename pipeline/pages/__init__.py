"""Self-contained HTML pages: one look, no address from outside."""
