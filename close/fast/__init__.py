"""What only makes it faster: without it, transformers and torch alone give the same."""
