"""The command line of the operations in ``eventsvc.admin``."""
