"""The commands for people: send, find, follow and count events. They use the HTTP API only."""
