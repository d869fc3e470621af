"""Rows: what every task reads, from files, folders of files, and the formats that people have."""
