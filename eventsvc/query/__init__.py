"""The query language: text to AST to Elasticsearch, SQL and Python. Pure: opens no connection."""
