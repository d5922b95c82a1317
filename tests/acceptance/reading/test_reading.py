"""What only a real server process shows: memory, clients that vanish, hundreds of live streams."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
import requests

MIB = 1024 * 1024
EVENT = {"email": "a@b.c", "environment": "e", "component": "c", "data": {}}


def fill(connection: Any, count: int, size: int = 100) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO event (id, email, environment, component, message, data) SELECT gen_random_uuid(), 'a@b.c',"
            " 'e', 'c', 'message ' || i || repeat('x', %s), jsonb_build_object('number', i)"
            " FROM generate_series(1, %s) AS i",
            (size, count),
        )


def post(service: Any, message: str) -> None:
    response = requests.post(f"{service.url}/event", json=EVENT | {"message": message}, timeout=30)
    assert response.status_code == 201, response.text


def stream(service: Any, **parameters: str) -> requests.Response:
    headers = {"Accept": "application/x-ndjson"}
    return requests.get(f"{service.url}/event", parameters, headers=headers, stream=True, timeout=120)


@pytest.mark.parametrize("query", ["", "message ct 'message'"])
def test_a_stream_of_everything_takes_little_memory(service: Any, connection: Any, query: str) -> None:
    """A million events in `make chaos-reading`, else fewer; growth is the same."""
    count = 1_000_000 if service.full else 30_000
    fill(connection, count)
    service.start("serve")
    if query:
        service.start("index")
        service.wait_until(lambda: indexed(connection), 300)
    requests.get(f"{service.url}/event", {"q": query, "limit": "1000"}, timeout=60)  # what the first request makes
    before = peak = service.memory()
    found = 0
    last = b""
    with stream(service, q=query, trailer="true") as response:
        for chunk in response.iter_content(4 * MIB):
            peak = max(peak, service.memory())
            found += chunk.count(b"\n")
            last = (last + chunk)[-100:]
    assert (found, last.splitlines()[-1]) == (count + 1, b'{"count":%d}' % count)
    assert peak - before < 64 * MIB


def indexed(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT seq FROM watermark) >= (SELECT max(seq) FROM event)")
        return bool(cursor.fetchall()[0][0])


def test_a_client_that_stops_reading_stops_the_work_and_so_does_one_that_goes_away(
    service: Any, connection: Any
) -> None:
    fill(connection, 40_000, size=2000)
    service.start("serve")
    response = stream(service)
    content: Any = response.iter_content(1000)  # kept: the connection is closed with it
    next(content)
    waiting = searches_at_rest(service)
    assert waiting < 35  # 40 pages are the whole: what was not read has not been looked for
    content.close()
    response.close()
    assert searches_at_rest(service) <= waiting + 1


def searches_at_rest(service: Any) -> float:
    """Wait until the service has not searched for three seconds, and give the number of its searches."""
    count, since = -1.0, 0.0

    def is_at_rest() -> bool:
        nonlocal count, since
        if (now := service.metric("eventsvc_searches_total")) != count:
            count, since = now, time.monotonic()
        return time.monotonic() - since > 3

    service.wait_until(is_at_rest, 120)
    return count


def test_five_hundred_clients_hear_every_event_once_from_one_reader(service: Any, connection: Any) -> None:
    service.start("serve")
    clients, events = 500, 5

    async def listen(number: int, opened: asyncio.Event, counter: list[int]) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        path = f"/event/stream?q=component%20eq%20'c'%20OR%20message%20eq%20'{number % 10}'"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b": live")
        counter[0] += 1
        if counter[0] == clients:
            opened.set()
        text = b""
        while text.count(b"data: ") < events:
            text += await reader.read(65536)
        writer.close()
        return text

    async def scenario() -> list[bytes]:
        opened, counter = asyncio.Event(), [0]
        tasks = [asyncio.create_task(listen(number, opened, counter)) for number in range(clients)]
        await asyncio.wait_for(opened.wait(), 60)
        assert followers(connection) == 1
        for number in range(events):
            await asyncio.to_thread(post, service, f"event {number}")
        return await asyncio.wait_for(asyncio.gather(*tasks), 60)

    for text in asyncio.run(scenario()):
        assert [text.count(b'"event %d"' % number) for number in range(events)] == [1] * events
    service.wait_until(lambda: followers(connection) == 0)


def followers(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'eventsvc live' AND datname = current_database()"
        )
        return int(cursor.fetchall()[0][0])


def test_a_client_that_does_not_read_is_cut_off_with_a_message(service: Any, connection: Any) -> None:
    service.start("serve")
    with connect_to_stream(service) as slow, connect_to_stream(service) as quick:
        assert read_until(slow, b": live")
        assert read_until(quick, b": live")
        # More than the service and the kernel hold for one client.
        for _ in range(16):
            fill(connection, 300, size=5000)
        post(service, "the last one")
        assert read_until(quick, b"the last one")  # by now, all has been offered to the slow one too
        text = read_until(slow, b"event: error")
        assert b"came faster" in text + slow.recv(65536)


def connect_to_stream(service: Any) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(("127.0.0.1", service.port))
    client.sendall(b"GET /event/stream HTTP/1.0\r\nHost: x\r\n\r\n")
    return client


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    """Read until the bytes are there; what is given begins with them."""
    text = b""
    deadline = time.monotonic() + 120
    while wanted not in text:
        assert time.monotonic() < deadline, text
        chunk = client.recv(65536)
        assert chunk, f"the service closed the connection before {wanted!r}"
        text = text[-len(wanted) :] + chunk
    return text[text.index(wanted) :]


def test_streams_end_when_the_service_stops(service: Any) -> None:
    service.start("serve")
    with requests.get(f"{service.url}/event/stream", stream=True, timeout=60) as response:
        chunks = response.iter_content(None)
        next(chunks)
        began = time.monotonic()
        service.stop()
        assert b"the service stops" in b"".join(chunks)  # whole, to the last chunk
    assert time.monotonic() - began < 10
