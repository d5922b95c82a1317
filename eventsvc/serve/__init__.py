"""Run the HTTP API under gunicorn."""
