"""The meaning of text and numbers: case folding, exact numbers, and the terms of the index."""
