"""What the gap is, in numbers: one file a family."""
