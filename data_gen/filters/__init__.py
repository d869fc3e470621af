"""Filters: what an accepted row must not be."""
