"""The mini sound world: synthesised scenes, and captions that tell a part of them."""
