"""How large an event may be; how large a body may be is a setting."""

EMAIL = 254  # characters; RFC 5321
NAME = 100  # characters of environment and component
MESSAGE = 8_191  # characters: the longest that always fits one exact term of the index
DATA_BYTES = 64 * 1024  # of data as compact JSON in UTF-8
DATA_DEPTH = 20  # brackets within brackets
FAULTS = 20  # named in one answer
