"""Which adapter and how much noise, before anything is trained."""
