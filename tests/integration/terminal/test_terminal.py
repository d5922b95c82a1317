"""Commands for people, against a real service: what they print, how they end, and what they survive."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

WHO = ("--email", "diego@chefhero.com", "--component", "orders")


def lines(process: Any) -> list[str]:
    return str(process.stdout).splitlines()


def test_what_was_logged_is_found(command: Any) -> None:
    logged = command("log", "the buyer has paid", *WHO, "--data", "amount=300", "--data", "card=visa")
    assert logged.returncode == 0, logged.stderr

    found = command("search", "message ct 'BUYER'")
    assert found.returncode == 0, found.stderr
    (line,) = lines(found)
    assert "production/orders diego@chefhero.com the buyer has paid" in line
    assert "\x1b" not in line
    (event,) = map(json.loads, lines(command("search", "data.amount eq 300", "--json")))
    assert (event["id"], event["data"]) == (logged.stdout.strip(), {"amount": 300, "card": "visa"})
    chosen = command("search", "--fields", "message,data.card,data.none")
    assert chosen.stdout == "the buyer has paid\tvisa\t\n"
    assert command("search", "--template", "{component}: {data.amount}!").stdout == "orders: 300!\n"


def test_exit_codes_tell_found_nothing_wrong_usage_and_a_refusal(command: Any) -> None:
    command("log", "x", *WHO)

    assert command("search", "message eq 'x'", "-q").returncode == 0
    assert command("search", "message eq 'y'", "-q").returncode == 1
    assert command("search", "--no-such-option").returncode == 2
    refused = command("search", "message = 'x'")
    assert refused.returncode == 3
    assert "^" in refused.stderr
    assert "hint: " in refused.stderr
    assert "Traceback" not in refused.stderr
    away = command("search", "--url", "http://127.0.0.1:9")
    assert away.returncode == 3
    assert "does not answer" in away.stderr


def test_a_pipe_is_sent_a_line_an_event(command: Any) -> None:
    sent = command("log", *WHO, text="".join(f"line {i}\n" for i in range(2500)) + "\n\nlast, without an end")
    assert sent.returncode == 0, sent.stderr
    assert "2,501 lines sent" in sent.stderr

    found = lines(command("search", "--oldest", "--limit", "0", "--fields", "message"))
    assert found == [*(f"line {i}" for i in range(2500)), "last, without an end"]
    assert len(lines(command("search", "--limit", "1500"))) == 1500


def test_json_lines_keep_what_they_say_and_bad_ones_are_named(command: Any) -> None:
    good = json.dumps({"component": "web", "message": "m", "data": {"a": 1}})
    sent = command("log", *WHO, "--json", text=f"{good}\n{{not json\n{good}\n")

    assert sent.returncode == 4
    assert "refused: line 2" in sent.stderr
    assert lines(command("search", "--fields", "component,data.a,email")) == ["web\t1\tdiego@chefhero.com"] * 2


def test_a_control_character_in_a_message_does_not_reach_the_terminal(command: Any, terminal: Any) -> None:
    evil = "a\x1b]0;owned\x07b\x1b[31mred\x9bm\u202eend"
    command("log", "--json", *WHO, text=json.dumps({"message": evil}) + "\n")

    shown = terminal("search", "message ct 'red'")

    assert "owned" not in shown
    assert "\u202e" not in shown
    assert "\x9b" not in shown
    assert "\x1b[7mred\x1b[27m" in shown  # ours: the match is marked


def test_a_reader_that_leaves_early_and_ctrl_c_leave_no_complaint(command: Any, start: Any) -> None:
    command("log", *WHO, text="".join(f"line {i} {'x' * 500}\n" for i in range(3000)))
    process = start("search", "--limit", "0")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) in (0, -signal.SIGPIPE)
    assert process.stderr.read() == ""

    process = start("tail")
    # A signal may also meet Python before it runs anything of ours: wait until the stream is read.
    for number in range(200):
        command("log", f"n {number}", *WHO)
        if select.select([process.stdout], [], [], 0)[0]:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert "Traceback" not in process.stderr.read()


def test_tail_goes_on_after_a_restart_and_misses_nothing(command: Any, start: Any, service: Any) -> None:
    process = start("tail", "message ct 'n'", "--fields", "message")
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(line.strip() for line in process.stdout), daemon=True)
    reader.start()
    # The stream begins some time after the command: send until it is seen.
    for number in range(200):
        command("log", f"n {number}", *WHO)
        if seen:
            break
    first = int(seen[0].removeprefix("n "))
    service.stop()
    service.start()
    for number in range(1000, 1010):
        command("log", f"n {number}", *WHO)
    _until(lambda: seen and seen[-1] == "n 1009")

    before = len(seen) - 10
    assert seen == [*(f"n {i}" for i in range(first, first + before)), *(f"n {i}" for i in range(1000, 1010))]
    process.kill()
    assert "resumed, nothing was missed" in process.stderr.read()


def test_follow_sends_a_file_across_rotation_and_restarts_once_each(command: Any, start: Any, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text("one\ntwo\nhal")
    process = start("log", "--follow", str(file), *WHO)

    def messages() -> Any:
        return lines(command("search", "--oldest", "--fields", "message"))

    _until(lambda: messages() == ["one", "two"])
    with file.open("a") as more:
        more.write("f\n")
    _until(lambda: messages() == ["one", "two", "half"])
    process.kill()
    process.wait()
    with file.open("a") as more:
        more.write("while away\n")
    file.rename(tmp_path / "app.log.1")
    (tmp_path / "app.log.1").rename(file)
    start("log", "--follow", str(file), *WHO)
    _until(lambda: messages()[-1] == "while away")
    with file.open("a") as more:
        more.write("last of the old\n")
    file.rename(tmp_path / "app.log.1")
    file.write_text("first of the new\n")
    _until(lambda: "first of the new" in messages())

    assert messages() == ["one", "two", "half", "while away", "last of the old", "first of the new"]


TRACE = [
    b"Exception in thread main",
    b"\tat L4.main(L4.java:9)  ",
    b"\xff\xfe \xc3\xa4",
    b"\x1b[31mred\x1b[0m",
    b"a\0b",
]
SHOWN = [line.decode(errors="replace").replace("\0", "\ufffd") for line in TRACE]


def _stored(command: Any) -> list[str]:
    found = command("search", "--oldest", "--limit", "0", "--json")
    return [json.loads(line)["message"] for line in lines(found)]


@pytest.mark.parametrize("way", ["pipe", "follow", "shape"])
def test_lines_keep_their_indentation_and_every_character(command: Any, start: Any, tmp_path: Path, way: str) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(b"\n".join([*TRACE, b"", b" ", b""]) + b"\r\n".join([*TRACE, b"", b"end\r", b""]))
    if way == "follow":
        start("log", "--follow", str(file), *WHO)
    else:
        command(
            "log",
            *WHO,
            *(("--shape", "any") if way == "shape" else ()),
            text=file.read_bytes().decode(errors="surrogateescape"),
        )
    _until(lambda: len(_stored(command)) == 2 * len(TRACE) + 1)
    assert _stored(command) == [*SHOWN, *SHOWN, "end\r"]


def test_lines_of_a_megabyte_are_stored_as_one_event_each(command: Any, start: Any, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(b"".join(b"%d \x1b%b\n" % (i, b"\x1b\x01x" * 330_000) for i in range(70)))
    start("log", "--follow", str(file), *WHO)
    _until(lambda: len(_stored(command)) == 70)
    assert [message.split()[0] for message in _stored(command)] == [str(i) for i in range(70)]
    assert len(lines(command("search", "data.sanitized.pointer eq '/message'"))) == 70
    piped = command("log", *WHO, text="y" * 3_000_000)
    assert (piped.returncode, "3 lines sent" in piped.stderr) == (0, True)


@pytest.mark.parametrize("way", ["rename", "copytruncate", "copytruncate, and more than before"])
@pytest.mark.parametrize("running", [True, False])
def test_follow_sends_what_a_rotation_took_away(
    command: Any, start: Any, tmp_path: Path, way: str, *, running: bool
) -> None:
    """Lines that were written just before the rotation, also without a line end, are in the file that it made."""
    file, old = tmp_path / "app.log", tmp_path / "app.log.1"
    file.write_text("one\ntwo\n")
    process = start("log", "--follow", str(file), *WHO)
    _until(lambda: _stored(command) == ["one", "two"])
    # The process is stopped meanwhile, so that it cannot see the lines before the rotation.
    process.send_signal(signal.SIGSTOP if running else signal.SIGKILL)
    with file.open("a") as more:
        more.write("three\nwithout an end")
    if way == "rename":
        file.rename(old)
    else:
        old.write_bytes(file.read_bytes())
        os.truncate(file, 0)
    new = [f"new {i}" for i in range(30 if "more" in way else 1)]
    with file.open("a") as more:
        more.write("".join(f"{line}\n" for line in new))
    if running:
        process.send_signal(signal.SIGCONT)
    else:
        start("log", "--follow", str(file), *WHO)
    _until(lambda: new[-1] in _stored(command))
    assert _stored(command) == ["one", "two", "three", "without an end", *new]


def test_follow_sends_what_a_program_writes_to_the_old_file_after_a_rotation(
    command: Any, start: Any, tmp_path: Path
) -> None:
    file = tmp_path / "app.log"
    file.write_text("before\n")
    start("log", "--follow", str(file), *WHO)
    _until(lambda: _stored(command) == ["before"])
    with file.open("a") as old:
        file.rename(tmp_path / "app.log.1")
        file.write_text("first of the new\n")
        for number in range(4):
            time.sleep(0.5)
            old.write(f"late {number}, a half")
            old.flush()
            time.sleep(0.1)
            old.write(" and a half\n")
            old.flush()
    late = [f"late {number}, a half and a half" for number in range(4)]
    _until(lambda: _stored(command)[-1] == "first of the new")
    assert _stored(command) == ["before", *late, "first of the new"]


def test_lines_of_a_pipe_that_are_sent_again_with_the_same_key_are_stored_once(command: Any, service: Any) -> None:
    text = [f"line {i}\n" for i in range(1500)]
    slow = subprocess.Popen(
        [sys.executable, "-m", "eventsvc", "log", *WHO, "--idempotency-key", "k"],
        env=os.environ | {"EVENTSVC_URL": service.url},
        stdin=subprocess.PIPE,
        text=True,
    )
    assert slow.stdin is not None
    for part in (text[:10], text[10:1200]):  # with a pause that is longer than lines usually wait
        slow.stdin.write("".join(part))
        slow.stdin.flush()
        time.sleep(2)
    _until(lambda: len(_stored(command)) == 1000)
    slow.kill()
    slow.communicate()
    again = command("log", *WHO, "--idempotency-key", "k", text="".join(text))
    assert (again.returncode, again.stderr) == (0, "1,500 lines sent\n")
    assert _stored(command) == [line.strip() for line in text]


def test_follow_that_is_killed_at_any_moment_stores_each_line_once(command: Any, start: Any, tmp_path: Path) -> None:
    file, random = tmp_path / "app.log", Random(1)
    file.touch()
    written, done = 0, threading.Event()

    def write() -> None:
        nonlocal written
        with file.open("a") as growing:
            while not done.wait(0.002):
                growing.write(f"line {written}\n")
                growing.flush()
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(8):
            options = (*WHO, "--data", f"run={number % 2}")
            process = start("log", "--follow", str(file), *options)
            time.sleep(1.0 + random.random() * 0.4)
            process.kill()
            process.wait()
    finally:
        done.set()
        writer.join()
    start("log", "--follow", str(file), *WHO)
    _until(lambda: _stored(command)[-1:] == [f"line {written - 1}"])
    assert _stored(command) == [f"line {i}" for i in range(written)]


def test_follow_sends_what_several_rotations_took_away_in_order(command: Any, start: Any, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text("one\n")
    process = start("log", "--follow", str(file), *WHO)
    _until(lambda: _stored(command) == ["one"])
    process.kill()
    process.wait()
    with file.open("a") as more:
        more.write("two\n")
    for age, new in ((30, "three"), (20, "four"), (10, "five")):
        os.utime(file, (time.time() - age,) * 2)
        for number in (2, 1):
            if (rotated := tmp_path / f"app.log.{number}").exists():
                rotated.rename(tmp_path / f"app.log.{number + 1}")
        file.rename(tmp_path / "app.log.1")
        file.write_text(f"{new}\n")
    (tmp_path / "app.log.bak").write_text("a copy\n")
    (tmp_path / "other.log.1").write_text("of another program\n")
    start("log", "--follow", str(file), *WHO)
    _until(lambda: "five" in _stored(command))
    assert _stored(command) == ["one", "two", "three", "four", "five"]


def test_shape_any_takes_the_lines_of_any_logger(command: Any) -> None:
    sent = command("log", *WHO, "--shape", "any", text='{"level":30,"time":1764057600000,"msg":"hi"}\n{"msg":"cut\n')
    assert sent.returncode == 0, sent.stderr
    found = lines(command("search", "--oldest", "--fields", "occurredAt,component,email,message,data.level"))
    assert found[0] == "2025-11-25T08:00:00.000Z\torders\tdiego@chefhero.com\thi\t30"
    assert found[1].endswith('\t{"msg":"cut\t')
    wrong = command("log", *WHO, "--shape", "any", "--data", "a=1", text="x")
    assert (wrong.returncode, "--data" in wrong.stderr) == (2, True)


def test_follow_says_what_is_wrong_with_the_file(command: Any, start: Any, tmp_path: Path) -> None:
    folder = command("log", "--follow", str(tmp_path))
    assert folder.returncode == 2
    assert "cannot be read: Is a directory" in folder.stderr
    process = start("log", "--follow", str(tmp_path / "later.log"), *WHO)
    assert "does not exist yet: waiting" in process.stderr.readline()
    (tmp_path / "later.log").write_text('{"message": "m"}\n')
    _until(lambda: len(_stored(command)) == 1)


def _until(holds: Any) -> None:
    pause = threading.Event()
    for _ in range(300):
        if holds():
            return
        pause.wait(0.1)
    raise AssertionError("it did not happen in time")


def test_stats_context_explain(command: Any, terminal: Any) -> None:
    ids = [command("log", f"m {i}", *WHO).stdout.strip() for i in range(3)]
    command("log", "other", "--email", "a@b.co", "--component", "web")

    counted = command("stats", "--by", "component", "--interval", "1h")
    assert counted.returncode == 0, counted.stderr
    assert lines(counted)[0] == "4 events"
    assert re.search(r"^orders +3  █+", counted.stdout, re.MULTILINE)
    assert command("stats", "message eq 'none'").returncode == 1
    around = lines(command("context", ids[1], "--same", "component"))
    assert [line.rpartition(" m ")[2] for line in around] == ["0", "1", "2"]
    assert [line[0] for line in around] == [" ", "▶", " "]
    assert json.loads(command("explain", "message ct 'x'").stdout)["query"] == "message ct 'x'"
    assert command("explain", "message ct").returncode == 3


def test_what_is_said_to_have_happened_earlier_is_found_there(command: Any) -> None:
    command("log", "stored later", *WHO, "--at", "2018-01-31T12:00:00.123456789+01:00")
    command("log", "happened later", *WHO)
    refused = command("log", "x", *WHO, "--at", "noon")
    assert (refused.returncode, "RFC 3339" in refused.stderr) == (3, True)

    found = lines(command("search", "--oldest", "--order-by", "occurredAt"))
    assert found[0].startswith("2018-01-31T11:00:00.123456789Z production/orders")
    assert [line.partition("@chefhero.com ")[2] for line in found] == ["stored later", "happened later"]
    assert len(lines(command("search", "--since", "1h", "--order-by", "occurredAt"))) == 1
    assert len(lines(command("search", "--since", "1h"))) == 2
    counted = json.loads(command("stats", "--interval", "1d", "--time", "occurredAt", "--json").stdout)
    assert counted["buckets"][0]["start"] == "2018-01-31T00:00:00.000Z"


def test_sample_events_can_be_found_and_taken_away(command: Any) -> None:
    command("log", "mine", *WHO)
    stored = command("sample", "--events", "300")
    assert stored.returncode == 0, stored.stderr
    assert len(lines(command("search", "data.sample exists", "--limit", "0"))) == 300
    assert len(lines(command("search", "data.sample exists AND occurredAt lt now-1d", "--limit", "0"))) > 100

    removed = command("sample", "--remove")
    assert removed.returncode == 0, removed.stderr
    assert lines(command("search", "--fields", "message", "--limit", "0")) == ["mine"]


@pytest.mark.parametrize("name", ["log", "search", "tail", "stats", "context", "explain", "fields", "open", "sample"])
def test_every_command_has_help_with_an_example(name: str, command: Any) -> None:
    shown = command(name, "--help")

    assert shown.returncode == 0
    assert "Example: eventsvc " in shown.stdout
