"""The limits on the size of an event. The limits on the size of a request body are settings.

The service and the logging handler of clients share this file.
"""

EMAIL = 254  # characters; RFC 5321
NAME = 100  # characters of environment and component
MESSAGE = 8_191  # characters, of up to 4 bytes each: a term of Lucene may have 32,766 bytes
LONGEST = {"email": EMAIL, "environment": NAME, "component": NAME, "message": MESSAGE}
DATA_BYTES = 64 * 1024  # bytes of data as compact JSON in UTF-8
DATA_DEPTH = 20  # levels of nested objects and arrays
FAULTS = 20  # faults that one answer names
