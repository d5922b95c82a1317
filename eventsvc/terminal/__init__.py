"""Commands for people: send, search, follow and count events of a service, over HTTP alone."""
