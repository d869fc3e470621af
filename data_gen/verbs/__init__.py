"""The verbs: kinds of training text, and what a run of each can be told."""
