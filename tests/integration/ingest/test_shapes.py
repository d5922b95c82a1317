"""shape=any takes what loggers and shippers send by default, and loses nothing of it."""

from __future__ import annotations

import gzip
import http.client
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from eventsvc.incoming.names import MESSAGES, TIMES

JSON, NDJSON, TEXT, FORM = "application/json", "application/x-ndjson", "text/plain", "application/x-www-form-urlencoded"
DEFAULTS = "email=ops@example.com&environment=production&component=shop"
ANY = f"?shape=any&{DEFAULTS}"
EIGHT = "2025-11-25T08:00:00.000Z"
GOOD = {"email": "a@b.co", "environment": "e", "component": "c", "message": "m"}


@dataclass
class Sent:
    """A body as it is sent by default, and what is stored: messages with their data, and the time of all."""

    body: str
    stored: list[tuple[str, Any]]
    time: str | None = EIGHT
    kind: str = JSON


SHIPPERS: dict[str, Sent] = {
    "Serilog": Sent(
        '{"events":[{"Timestamp":"2025-11-25T09:00:00.0000000+01:00","Level":"Error","MessageTemplate":"a {B}",'
        '"RenderedMessage":"a b","Properties":{"B":"b"}}]}',
        [("a b", {"Level": "Error", "MessageTemplate": "a {B}", "Properties": {"B": "b"}})],
    ),
    "Serilog's compact format": Sent(
        '{"@t":"2025-11-25T08:00:00.0000000Z","@mt":"a {B}","@l":"Error","B":"b"}\n'
        '{"@t":"2025-11-25T08:00:00.0000000Z","@m":"a b","@i":"1f","B":"b"}\n',
        [("a {B}", {"@l": "Error", "B": "b"}), ("a b", {"@i": "1f", "B": "b"})],
        kind="application/vnd.serilog.clef",
    ),
    "pino": Sent(
        '{"logs":[{"level":30,"time":1764057600000,"pid":1,"hostname":"h","msg":"hello"},'
        '{"level":50,"time":1764057600000,"pid":1,"hostname":"h","err":{"type":"Error"},"msg":"no"}]}',
        [
            ("hello", {"level": 30, "pid": 1, "hostname": "h"}),
            ("no", {"level": 50, "pid": 1, "hostname": "h", "err": {"type": "Error"}}),
        ],
    ),
    "winston": Sent(
        '{"method":"collect","params":{"level":"info","message":"hello","meta":{"a":1}}}',
        [("hello", {"level": "info", "meta": {"a": 1}})],
        time=None,
    ),
    "winston in batches": Sent(
        '[{"level":"info","message":"hello","timestamp":"2025-11-25T08:00:00.000Z"},'
        '{"level":"warn","message":"hm","timestamp":"2025-11-25T08:00:00.000Z"}]',
        [("hello", {"level": "info"}), ("hm", {"level": "warn"})],
    ),
    "Fluent Bit": Sent(
        '[{"date":1764057600.0,"log":"hello","stream":"stdout"},{"date":1764057600,"log":"","stream":"stdout"}]',
        [
            ("hello", {"stream": "stdout"}),
            ("(empty)", {"stream": "stdout", "sanitized": [{"pointer": "/message", "detail": "must not be empty"}]}),
        ],
    ),
    "Fluent Bit, json_stream": Sent(
        '{"date":1764057600.0,"log":"a"}{"date":1764057600.0,"log":"b"}', [("a", None), ("b", None)]
    ),
    "Fluent Bit, parsed": Sent(
        '[{"date":1764057600.0,"code":200,"path":"/"}]',
        [('{"date":1764057600.0,"code":200,"path":"/"}', {"code": 200, "path": "/"})],
    ),
    "Logstash": Sent(
        '{"@timestamp":"2025-11-25T08:00:00Z","@version":"1","host":{"name":"h"},"message":"hello",'
        '"event":{"original":"hello"}}',
        [("hello", {"@version": "1", "host": {"name": "h"}, "event": {"original": "hello"}})],
    ),
    "log4j2": Sent(
        '{\n  "instant" : {\n    "epochSecond" : 1764057600,\n    "nanoOfSecond" : 1000\n  },\n  "level" : "ERROR",\n'
        '  "loggerName" : "a.B",\n  "message" : "hello",\n  "thread" : "main"\n}\n',
        [("hello", {"level": "ERROR", "loggerName": "a.B", "thread": "main"})],
        time="2025-11-25T08:00:00.000001Z",
        kind="application/json; charset=UTF-8",
    ),
    "GELF": Sent(
        '{"version":"1.1","host":"h","short_message":"no","full_message":"no\\nat x","timestamp":1764057600.0,'
        '"level":3,"_user_id":9007199254740993}',
        [("no", {"version": "1.1", "host": "h", "full_message": "no\nat x", "level": 3, "_user_id": 9007199254740993})],
    ),
    "GELF without a type": Sent(
        '{"version":"1.1",\n"short_message":"no","timestamp":1764057600}', [("no", {"version": "1.1"})], kind=FORM
    ),
    "syslog": Sent(
        '<13>Nov 25 08:00:00 host prog: hello\n<11>1 - - - - - - {not "JSON"}\r\n\n[x] y\n',
        [("<13>Nov 25 08:00:00 host prog: hello", None), ('<11>1 - - - - - - {not "JSON"}', None), ("[x] y", None)],
        time=None,
        kind=TEXT,
    ),
    "syslog-ng": Sent(
        "<13>Nov 25 08:00:00 host prog: a+b=%41&c", [("<13>Nov 25 08:00:00 host prog: a+b=%41&c", None)], None, FORM
    ),
    "Bunyan": Sent(
        '{"name":"shop","hostname":"h","pid":1,"level":30,"msg":"hi","time":"2025-11-25T08:00:00.000Z","v":0}\n',
        [("hi", {"name": "shop", "hostname": "h", "pid": 1, "level": 30, "v": 0})],
        kind=NDJSON,
    ),
    "zap": Sent(
        '{"level":"info","ts":1764057600.0,"caller":"a.go:1","msg":"hi"}\npanic: no JSON\n',
        [("hi", {"level": "info", "caller": "a.go:1"}), ("panic: no JSON", None)],
        time=None,
        kind=NDJSON,
    ),
    "structlog": Sent(
        '[{"event":"hi","level":"info","timestamp":"2025-11-25T08:00:00Z"}]', [("hi", {"level": "info"})]
    ),
    # What the programs themselves sent when they ran; only times and the lengths of texts differ.
    "loguru 0.7, serialize=True": Sent(
        '{"text": "2025-11-25 08:00:00.000 | ERROR | __main__:<module>:33 - failed\\nTraceback (most recent call '
        'last):\\nZeroDivisionError: division by zero\\n", "record": {"elapsed": {"repr": "0:00:00.068151", "seconds"'
        ': 0.068151}, "exception": {"type": "ZeroDivisionError", "value": "division by zero", "traceback": true}, '
        '"extra": {"user": 3}, "level": {"icon": "\\u274c", "name": "ERROR", "no": 40}, "line": 33, "message": '
        '"failed", "name": "__main__", "time": {"repr": "2025-11-25 08:00:00+00:00", "timestamp": 1764057600}}}\n',
        [
            (
                "failed",
                {
                    "text": "2025-11-25 08:00:00.000 | ERROR | __main__:<module>:33 - failed\nTraceback (most recent "
                    "call last):\nZeroDivisionError: division by zero\n",
                    "elapsed": {"repr": "0:00:00.068151", "seconds": 0.068151},
                    "exception": {"type": "ZeroDivisionError", "value": "division by zero", "traceback": True},
                    "extra": {"user": 3},
                    "level": {"icon": "\u274c", "name": "ERROR", "no": 40},
                    "line": 33,
                    "name": "__main__",
                },
            )
        ],
    ),
    "logging.handlers.HTTPHandler of Python 3.11": Sent(
        "name=shop&msg=failed+%C3%A4%C3%B6+%26+%3D+%25%25+%2B+%22q%22%0Aline&args=%28%29&levelname=ERROR&levelno=40"
        "&exc_text=None&lineno=10&created=1795912736.583288",
        [
            (
                'failed äö & = %% + "q"\nline',
                {
                    "name": "shop",
                    "args": "()",
                    "levelname": "ERROR",
                    "levelno": "40",
                    "exc_text": "None",
                    "lineno": "10",
                    "created": "1795912736.583288",
                },
            )
        ],
        time=None,
        kind=FORM,
    ),
    "journalctl 252, -o json": Sent(
        '{"_SYSTEMD_UNIT":"shop.service","MESSAGE":"multi\\nline äö","PRIORITY":"3","__REALTIME_TIMESTAMP":'
        '"1764057600000000"}\n{"__REALTIME_TIMESTAMP":"1764057600000000","PRIORITY":"3","MESSAGE":'
        "[27,91,51,49,109,114,101,100,27,91,48,109,32,97,108,101,114,116]}\n"
        '{"MESSAGE":[255,254,32,98,121,116,101,115],"__REALTIME_TIMESTAMP":"1764057600009000",'
        '"_SOURCE_REALTIME_TIMESTAMP":"1764057600000000"}\n',
        [
            ("multi\nline äö", {"_SYSTEMD_UNIT": "shop.service", "PRIORITY": "3"}),
            ("\x1b[31mred\x1b[0m alert", {"PRIORITY": "3"}),
            (
                "\ufffd\ufffd bytes",
                {
                    "MESSAGE": [255, 254, 32, 98, 121, 116, 101, 115],
                    "__REALTIME_TIMESTAMP": "1764057600009000",
                },
            ),
        ],
        kind=NDJSON,
    ),
    "syslog-ng 3.38, format-json": Sent(
        '{"PRIORITY":"err","PROGRAM":"shop","MESSAGE":"\\xff äö \\"quoted\\"","ISODATE":"2025-11-25T09:00:00+01:00",'
        '"HOST":"h","FACILITY":"user"}\n'.replace("\\xff", "\\\\xff"),
        [('\\xff äö "quoted"', {"PRIORITY": "err", "PROGRAM": "shop", "HOST": "h", "FACILITY": "user"})],
        kind=NDJSON,
    ),
    "slog of Go 1.26, with names given twice": Sent(
        '{"time":"2025-11-25T08:00:00.000000001Z","level":"INFO","msg":"order placed","n":7,"time":"dup","n":8,'
        '"msg":"again"}\n',
        [("again", {"level": "INFO", "msg": "order placed", "time": "dup", "n": 8, "extra": {"n": 7}})],
        time="2025-11-25T08:00:00.000000001Z",
        kind=NDJSON,
    ),
    "log4j2 2.24, EcsLayout.json": Sent(
        '{"@timestamp":"2025-11-25T08:00:00.000Z","ecs.version":"1.2.0","log.level":"ERROR","message":"failed",'
        '"process.thread.name":"main","log.logger":"com.shop.Orders","error.type":"java.lang.IllegalStateException",'
        '"error.stack_trace":"java.lang.IllegalStateException: outer\\n\\tat L4.main(L4.java:9)\\n"}\n',
        [
            (
                "failed",
                {
                    "ecs.version": "1.2.0",
                    "log.level": "ERROR",
                    "process.thread.name": "main",
                    "log.logger": "com.shop.Orders",
                    "error.type": "java.lang.IllegalStateException",
                    "error.stack_trace": "java.lang.IllegalStateException: outer\n\tat L4.main(L4.java:9)\n",
                },
            )
        ],
        kind="application/json; charset=UTF-8",
    ),
}


@pytest.mark.parametrize("packing", ["", "gzip"])
@pytest.mark.parametrize("name", SHIPPERS)
def test_what_is_sent_by_default_is_stored(service: Any, name: str, packing: str) -> None:
    """The answer is 200, which winston alone counts as delivered; everything that was sent is in the events."""
    sent = SHIPPERS[name]
    body = gzip.compress(sent.body.encode()) if packing else sent.body.encode()
    answer = service.post(body, ANY, Content_Type=sent.kind, **({"Content_Encoding": packing} if packing else {}))
    report = answer.json()
    assert (answer.status, report["count"], report["rejected"]) == (200, len(sent.stored), 0)
    events = service.ask("GET", "/event?order=asc").json()
    assert [(event["message"], event["data"]) for event in events] == sent.stored
    assert {(event["email"], event["environment"], event["component"]) for event in events} == {
        ("ops@example.com", "production", "shop")
    }
    if sent.time:
        assert {event["occurredAt"] for event in events} == {sent.time}


@pytest.mark.parametrize("name", SHIPPERS)
def test_without_a_shape_nothing_changes_but_the_hint(service: Any, name: str) -> None:
    """Not one of these bodies is an event; what is told leads to shape=any."""
    sent = SHIPPERS[name]
    answer = service.post(sent.body.encode(), Content_Type=sent.kind)
    assert answer.status in {415, 422}
    assert "shape=any" in answer.body.decode()
    assert service.count() == 0


def test_a_level_is_found_under_its_own_name(service: Any) -> None:
    service.post({"msg": "no", "level": "error", "@l": "x"}, ANY)
    for query in ("data.level%20eq%20'error'", "data.@l%20eq%20'x'"):
        assert len(service.ask("GET", f"/event?q={query}").json()) == 1


def test_an_event_that_is_right_is_stored_as_it_is(service: Any) -> None:
    right = GOOD | {"occurredAt": "2025-11-25T08:00:00.123Z", "data": {"a": [1]}}
    service.post(right, ANY)
    ((stored,),) = [service.ask("GET", "/event").json()]
    assert {name: stored[name] for name in right} == right


MIXED = (
    b"[" + b",".join([b'{"msg":"a"}', b'{"msg":nul}', b'{"msg":"b","x":"' + b"x" * 1_100_000 + b'"}', b'"c"']) + b"]"
)


def test_a_bad_record_costs_its_neighbours_nothing_and_is_named(service: Any) -> None:
    report = service.post(MIXED, ANY).json()
    assert (report["count"], report["rejected"], [error["line"] for error in report["errors"]]) == (2, 2, [2, 3])
    assert "not JSON" in report["errors"][0]["detail"]
    assert service.post(MIXED, ANY + "&partial=false").status == 422
    assert service.count() == 2


def test_with_partial_false_all_are_stored_or_none(service: Any) -> None:
    one = service.post({"msg": "a\0", "level": 1}, ANY + "&partial=false")
    assert (one.status, one.json()["message"], one.json()["data"]["level"]) == (201, "a\ufffd", 1)
    exact = service.post({"msg": "a\0"}, ANY + "&partial=false&sanitize=false")
    assert (exact.status, exact.json()["errors"][0]["pointer"]) == (422, "/message")
    assert service.post({"logs": [{"msg": "a"}, {"msg": "b"}]}, ANY + "&partial=false").status == 201
    assert service.count() == 3


def test_only_a_check(service: Any) -> None:
    for body in ({"msg": "a"}, [{"msg": "a"}], {"logs": [{"msg": "a"}]}):
        assert service.post(body, ANY + "&dryRun=true").json()["count"] == 1
    assert service.post(b"a line", ANY + "&dryRun=true", Content_Type=TEXT).json()["count"] == 1
    assert service.count() == 0


@pytest.mark.parametrize(
    ("query", "parameter", "told"),
    [
        ("?shape=any", "email", "add email=…&environment=…&component=… to the URL"),
        ("?shape=any&email=a@b.co&component=c", "environment", "add environment=… to the URL"),
        ("?shape=serilog&" + DEFAULTS, "shape", "it must be any"),
        ("?" + DEFAULTS, "email", "it goes with shape=any"),
        ("?shape=any&email=nobody&environment=e&component=c", "email", "not a valid e-mail address"),
        ("?shape=any&email=a+b@c.co&environment=e&component=c", "email", "%2B"),
        (ANY + "&component=x", "component", "more than once"),
        ("?shape=any&email=a@b.co&environment=&component=c", "environment", "must not be empty"),
        ("?shape=any&email=a@b.co&environment=e&component=" + "c" * 101, "component", "at most 100"),
        (ANY + "&shap=any", "shap", "shape"),
    ],
)
def test_a_url_that_cannot_work_is_refused_before_the_first_event(
    service: Any, query: str, parameter: str, told: str
) -> None:
    answer = service.post(GOOD, query)
    assert (answer.status, answer.json()["parameter"]) == (400, parameter)
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("body", [{"msg": "a"}, {"logs": [{"msg": "a"}, {"msg": "b"}]}], ids=["one", "many"])
def test_another_shape_or_default_is_another_request(service: Any, body: Any) -> None:
    def send(query: str) -> Any:
        return service.post(body, query, Idempotency_Key="k")

    first, again = send(ANY), send(ANY)
    assert (first.status, again.status, again.headers["idempotency-replayed"]) == (200, 200, "true")
    assert first.json() == again.json()
    assert send(f"?{DEFAULTS}&shape=any").json() == first.json()
    others = [ANY.replace("shop", "other"), ANY + "&partial=false", ANY + "&sanitize=false"]
    assert [send(query).status for query in others] == [422] * 3
    assert service.post(GOOD, Idempotency_Key="right").status == 201
    assert service.post(GOOD, ANY, Idempotency_Key="right").json()["type"] == "/problems#key-reused"
    assert service.post(GOOD, "?partial=true", Idempotency_Key="right").status == 422


@pytest.mark.parametrize("packing", ["", "zstd"])
def test_an_envelope_larger_than_one_event_is_streamed(service: Any, packing: str) -> None:
    records = [{"Timestamp": "2025-11-25T08:00:00Z", "RenderedMessage": f"m {n}", "x": "x" * 500} for n in range(5000)]
    body = json.dumps({"events": records}).encode()
    assert len(body) > 2 * 1024**2
    headers = {"Content_Encoding": packing} if packing else {}
    pack = zstandard.compress if packing else bytes
    report = service.post(pack(body), ANY, **headers).json()
    assert (report["count"], report["rejected"]) == (5000, 0)
    ((first, last),) = service.rows("SELECT min(seq), max(seq) FROM event")
    assert service.rows("SELECT message FROM event WHERE seq IN (%s, %s) ORDER BY seq", first, last) == [
        ("m 0",),
        ("m 4999",),
    ]
    cut = service.post(pack(body[:-1]), ANY, **headers)
    more = service.post(pack(body[:-1] + b',"host":"h"}'), ANY, **headers)
    assert (cut.status, more.status) == (400, 400)
    assert "something follows the array" in more.json()["detail"]
    assert service.count() == 5000


def test_many_records_in_a_row_are_no_envelope_though_the_first_looks_like_one(service: Any) -> None:
    records = [{"events": [{"a": 1}], "msg": "one"}, *({"msg": "x" * 1000} for _ in range(1500))]
    body = b"".join(json.dumps(record).encode() for record in records)
    assert service.post(body, ANY).json()["count"] == 1501
    ((data,),) = service.rows("SELECT data::text FROM event WHERE message = 'one'")
    assert json.loads(data) == {"events": [{"a": 1}]}


def test_the_memory_of_a_worker_stays_bounded(service: Any) -> None:
    """60 MiB as one envelope, whose records are small."""
    record = b'{"Timestamp":"2025-11-25T08:00:00Z","RenderedMessage":"' + b"x" * 700 + b'","Level":"Error"}'
    before = peak(service)
    report = service.post(b'{"events":[' + b",".join([record] * 80_000) + b"]}", ANY).json()
    assert report["count"] == 80_000
    assert peak(service) - before < 64 * 1024


def peak(service: Any) -> int:
    """The most memory that the worker has used, in KiB."""
    status = Path(f"/proc/{service.worker_pid()}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_lines_of_any_bytes_are_stored(service: Any) -> None:
    report = service.post(b'caf\xe9\n\ta "b" \\c\n\n{}\n[1]\n' + b"x" * 9_000, ANY, Content_Type=TEXT).json()
    assert (report["count"], report["rejected"], report["sanitized"]) == (5, 0, 2)
    stored = [message for (message,) in service.rows("SELECT message FROM event ORDER BY seq")]
    assert stored[:4] == ["caf\ufffd", '\ta "b" \\c', "{}", "[1]"]
    assert "of 9,000 characters cut out" in stored[4]


@pytest.mark.parametrize("kind", [TEXT, FORM])
def test_a_page_of_another_origin_cannot_send_text(service: Any, kind: str) -> None:
    """A browser sends these types for any page without asking the service first."""
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        answer = service.post(b"a line", ANY, Content_Type=kind, **headers)
        assert (answer.status, answer.json()["type"]) == (415, "/problems#unsupported-media-type")
    assert service.post({"msg": "m"}, ANY, Origin="https://page.example").status == 200
    assert service.count() == 1


@pytest.mark.parametrize("kind", ["", "application/xml", "multipart/form-data", "text/plain; charset=latin-1"])
def test_other_types_stay_refused(service: Any, kind: str) -> None:
    assert service.post(b"a line", ANY, Content_Type=kind).status == 415


def test_a_body_that_breaks_off_is_refused(service: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("POST", f"/event{ANY}", b'{"logs":[{"msg":"a"},', {"Content-Type": JSON})
    answer = connection.getresponse()
    report = json.loads(answer.read())
    connection.close()
    assert (answer.status, report["count"], report["rejected"]) == (200, 0, 1)
    assert service.post(b'[{"msg":"a"},', ANY).status == 400
    assert service.count() == 0


def read_urls() -> list[str]:
    """Give what follows the host in every recipe of docs/shippers.md that needs no change of the records."""
    text = (Path(__file__).parents[3] / "docs" / "shippers.md").read_text(encoding="utf-8")
    section = text.partition("\n## Without a change of the records\n")[2].partition("\n## ")[0]
    return [url.replace("&amp;", "&") for url in re.findall(r"event(\?shape=any[^\s'\")]*)", section)]


def test_the_recipes_take_every_default_body(service: Any) -> None:
    urls = read_urls()
    assert len(urls) >= 11
    for url in urls:
        for sent in SHIPPERS.values():
            report = service.post(sent.body.encode(), url, Content_Type=sent.kind).json()
            assert (report["count"], report["rejected"]) == (len(sent.stored), 0)


def test_every_name_that_is_known_stands_in_the_documents() -> None:
    text = (Path(__file__).parents[3] / "docs" / "ingest.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| the first of these members")]
    assert [re.findall("`([^`]+)`", row.partition(" |")[0]) for row in rows] == [list(MESSAGES), list(TIMES)]


OTLP = b"""{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
"scopeLogs":[{"scope":{},"logRecords":[{"timeUnixNano":"1764057600000000000","body":{"stringValue":"hi"}}]}]}]}"""


@pytest.mark.parametrize(("body", "kind"), [(OTLP, JSON), (OTLP, NDJSON), (b"\n\x05", "application/x-protobuf")])
def test_what_opentelemetry_sends_is_refused_with_a_way_out(service: Any, body: bytes, kind: str) -> None:
    """Stored as one event, a request of many records would be cut off."""
    answer = service.post(body.replace(b"\n", b" ") if kind == NDJSON else body, ANY, Content_Type=kind)
    assert answer.status == 415
    assert "OTLP" in answer.json()["detail"]
    assert "Fluent Bit" in answer.json()["detail"]
    assert service.count() == 0
    assert "OTLP" in service.ask("POST", "/v1/logs", body).json()["detail"]


@pytest.mark.parametrize("line", ["level=info&a=b", "msg=a b", "msg=100%&x=1", "msg", "[x]=msg"])
def test_text_that_is_no_form_with_a_message_stays_as_sent(service: Any, line: str) -> None:
    assert service.post(line.encode(), ANY, Content_Type=FORM).json()["count"] == 1
    (event,) = service.ask("GET", "/event").json()
    assert (event["message"], event["data"]) == (line, None)


def test_a_wrong_path_or_method_names_the_right_one(service: Any) -> None:
    nowhere = service.ask("POST", "/events", b"{}").json()
    assert "POST /event stores events" in nowhere["detail"]
    put = service.ask("PUT", "/event", b"{}").json()
    assert "PUT is not served at this path" in put["detail"]
    assert "POST" in put["detail"]
