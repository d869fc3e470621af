"""Texts: their words, the languages that these belong to, and the files that hold them."""
