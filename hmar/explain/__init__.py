"""Why an item is recommended: which events of the history carried it."""
