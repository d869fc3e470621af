"""From vectors to the first tokens that the language model reads: one file a kind."""
