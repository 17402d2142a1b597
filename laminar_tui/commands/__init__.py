"""A command a module: its words, and what it does. Only the standard library is imported before one runs."""
