"""What only makes it faster: turned off (`CLOSE_FAST=0`), transformers and torch alone give the same."""
