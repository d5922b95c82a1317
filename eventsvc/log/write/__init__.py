"""Store events: single ones in groups, many by COPY, each once."""
