"""From a recipe to a trained run, and from a run to text."""
