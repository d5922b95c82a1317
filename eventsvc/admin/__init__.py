"""What an operator does to the log and its index."""
