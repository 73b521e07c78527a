"""The benchmark: rows x datasets x splits x seeds, put together from settings and put into tables."""
