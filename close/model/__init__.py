"""The model: a prefix made of vectors in front of a language model."""
