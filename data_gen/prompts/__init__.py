"""Prompts: keywords, styles and shots, how a request is written and how its answer is read."""
