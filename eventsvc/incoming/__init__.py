"""Turns the bytes that clients send into events: unpacks, splits and parses them, and explains faults."""
