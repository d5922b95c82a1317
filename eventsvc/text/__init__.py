"""What text means: case folding and the terms of the index."""
