"""Scores become lists that are worth showing: by name, for one user or a million, on a sheet of pictures."""
