"""Tables of unit vectors: made once, kept on disk, read by whoever measures, adapts or trains."""
