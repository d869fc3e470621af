"""A report that people like to look at: page, figures, words."""
