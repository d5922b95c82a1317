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
    "ISODATE": "syslog-ng",
    "_SOURCE_REALTIME_TIMESTAMP": "the systemd journal: the time of the sender",
    "__REALTIME_TIMESTAMP": "the systemd journal",
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
# loguru sends {"text": "…", "record": {…}} with serialize=True; the members of record are members of the record.
LOGURU = ("text", "record")
# journalctl writes a text with control characters, or of bytes that are not UTF-8, as the array of its bytes.
JOURNAL = "MESSAGE"

# OpenTelemetry's collector and libraries send {"resourceLogs": […]}, or the same as protobuf.
OTLP = "resourceLogs"
NO_OTLP = (
    "OpenTelemetry's protocol (OTLP), which the service does not read; Fluent Bit and Vector read OTLP and send JSON to"
    " POST /event?shape=any"
)

# The names that an event has not, but the records of other loggers have.
OTHERS = frozenset({*MESSAGES, *TIMES, *ARRAYS, *CALL, *LOGURU})
