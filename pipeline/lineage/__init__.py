"""Where every column of a snapshot comes from, read off the statements themselves."""
