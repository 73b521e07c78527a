"""The search for better settings of a model: its space, what is tried next, what is cut short, what came of it."""
