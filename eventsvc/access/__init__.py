"""Who may do what: API keys, their rights, and the part of the log that each may see."""
