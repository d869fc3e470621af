"""The embedded language model, and its server."""
