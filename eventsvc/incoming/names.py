"""The names that loggers and shippers use by default, which shape=any knows."""

from __future__ import annotations

# The message is the first of these that holds text, and is not empty if there is a choice. Who sends it:
MESSAGES = {
    "message": "this service, Logstash, Vector, winston, log4j2, ECS",
    "msg": "pino, Bunyan, zap, logrus, slog",
    "Message": "NLog, .NET's JSON console",
    "RenderedMessage": "Serilog",
    "@m": "Serilog's compact format",
    "@message": "hclog",
    "short_message": "GELF",
    "MESSAGE": "the systemd journal",
    "log": "Fluent Bit, Docker",
    "event": "structlog",
    "@mt": "Serilog's compact format without the text: the template",
    "MessageTemplate": "Serilog without the text: the template",
}
# The time is the first of these that can be read as a time. Who sends it:
TIMES = {
    "occurredAt": "this service",
    "@timestamp": "Logstash, hclog, ECS",
    "@t": "Serilog's compact format",
    "Timestamp": "Serilog, .NET's JSON console",
    "timestamp": "GELF, structlog, winston, Vector",
    "instant": "log4j2: {epochSecond, nanoOfSecond}",
    "timeMillis": "log4j2 before 2.11",
    "time": "pino, Bunyan, logrus, slog, Docker",
    "ts": "zap",
    "date": "Fluent Bit",
    "datetime": "Monolog",
}
# These are taken where their values are right for an event.
FIELDS = ("email", "environment", "component")
# An object whose only member is an array of this name is opened. Who sends it:
ARRAYS = {
    "events": "Serilog",
    "logs": "pino",
}
# winston sends {"method": "collect", "params": {…}}; params is the record.
CALL = ("method", "params")

# The names that an event has not, but the records of other loggers have.
OTHERS = frozenset({*MESSAGES, *TIMES, *ARRAYS, *CALL})
