"""A memory of texts, searched by a text in training and by an image in use."""
