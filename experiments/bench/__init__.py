"""How fast the toolkit is against the plain way of doing the same with the same libraries."""
