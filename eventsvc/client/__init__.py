"""A logging handler for programs that send events. It never blocks, never raises, and never stores an event twice."""

from eventsvc.client.handler import EventHandler

__all__ = ["EventHandler"]
