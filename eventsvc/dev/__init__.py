"""Run everything on one machine: the servers, the API and the indexer."""
