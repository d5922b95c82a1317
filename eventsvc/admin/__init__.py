"""The operations of an operator on the log and the index."""
