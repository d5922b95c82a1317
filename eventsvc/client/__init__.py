"""For programs that send events: a logging handler that never blocks, raises or stores twice."""

from eventsvc.client.handler import EventHandler

__all__ = ["EventHandler"]
