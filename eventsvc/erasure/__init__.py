"""Erase events on request and by retention rules; holds keep events; a purge removes the last traces."""
