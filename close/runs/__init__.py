"""A run: its recipe, its folder, and what becomes of pictures and rows that it is given."""
