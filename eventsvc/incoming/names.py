"""The names that loggers and shippers use by default, which shape=any knows."""

from __future__ import annotations

# Members that may hold the message, and the loggers that send them. The message is the first member that is a non-empty
# string; if there is none, the first member that is an empty string.
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
# Members that may hold the time, and the loggers that send them. The first member that can be read as a time counts.
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
# Names of arrays, and the loggers that send them. If a body is an object whose only member is such an array, each
# element of the array is a record.
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

# The members by which faults.py recognises a record of another logger. Two of them, ``message`` and ``occurredAt``, are
# fields of an event as well.
OTHERS = frozenset({*MESSAGES, *TIMES, *ARRAYS, *CALL, *LOGURU})
