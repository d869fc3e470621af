"""A run: what each request asks, the files that no kill can hurt, and everything between."""
