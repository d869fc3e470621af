"""How far what was written is from what was wanted."""
