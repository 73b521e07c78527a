"""From raw files to staged events: physical lines, typed rows, partitions, accounts and metrics."""
