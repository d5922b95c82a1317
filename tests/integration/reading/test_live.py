"""The live tail: nothing skipped, nothing twice, one reader of the log."""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from typing import Any

import orjson
import pytest

from eventsvc.api.stream import Sender, read_token, render
from eventsvc.errors import LogUnavailable
from eventsvc.log.connection import connect
from eventsvc.search.listeners import TOO_MUCH_WORK, TOO_SLOW, Topic
from eventsvc.search.live import BROKEN, Live


class Client:
    """Reads one stream, and parses what it gets."""

    def __init__(self, world: Any, live: Live, text: str = "", after: int | None = None, **options: Any) -> None:
        self._live, self._text, self._after = live, text, after
        self._query, self._reader = world.compiled(text), world.reader()
        self._options = {"heartbeat": 0.2, "grace": 0.2} | options
        self.messages: list[str] = []
        self.ids: list[int] = []
        self.errors: list[Any] = []
        self.beats = 0

    async def open(self) -> None:
        await self._live.follow()
        self._sender = Sender(self._live, self._reader, self._query, self._after, **self._options)

    async def read(self, until: Any, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not until(self):
                try:
                    self._take(await anext(self._sender))
                except StopAsyncIteration:
                    return

    def _take(self, chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n"):
            fields = dict(re.findall(r"^(\w+): (.*)$", block, re.MULTILINE))
            self.beats += block.startswith(": heartbeat")
            if "id" in fields:
                self.ids.append(read_token(fields["id"]))
            if fields.get("event") == "error":
                self.errors.append(orjson.loads(fields["data"]))
            elif "data" in fields:
                self.messages.append(orjson.loads(fields["data"])["message"])

    async def close(self) -> None:
        await self._sender.close()


def live_of(world: Any, **options: Any) -> Live:
    live = Live(world.settings.database_url.get_secret_value(), render, **({"poll": 0.02} | options))
    world.opened.append(live.close)
    return live


async def in_thread(work: Any, *arguments: Any, **options: Any) -> Any:
    return await asyncio.to_thread(lambda: work(*arguments, **options))


def test_what_is_stored_after_the_beginning_is_sent_in_order_and_filtered_like_a_search(world: Any) -> None:
    world.store("old buyer")

    async def scenario() -> None:
        client = Client(world, live_of(world), "message ct 'buyer'")
        await client.open()
        await in_thread(world.store, "one buyer", "two", "three BUYERS")
        await client.read(lambda c: len(c.messages) == 2)
        await client.close()
        assert client.messages == ["one buyer", "three BUYERS"]

    world.run(scenario())


def test_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world)
        first = Client(world, live)
        await first.open()
        await in_thread(world.store, "a", "b", "c")
        await first.read(lambda c: len(c.messages) == 3)
        await first.close()
        await in_thread(world.store, *(f"m{number}" for number in range(1200)))
        second = Client(world, live, after=first.ids[-2])
        await second.open()
        await second.read(lambda c: len(c.messages) == 1201)
        await in_thread(world.store, "last")
        await second.read(lambda c: "last" in c.messages)
        await second.close()
        assert second.messages == ["c", *(f"m{number}" for number in range(1200)), "last"]

    world.run(scenario())


def test_a_client_ahead_of_this_worker_is_not_sent_what_it_has(world: Any) -> None:
    """It comes from another worker, whose reader was a moment faster."""

    async def scenario() -> None:
        live = live_of(world, poll=0.3)
        await live.follow()
        seqs = await in_thread(world.store, "a", "b")
        client = Client(world, live, after=seqs[0])
        await client.open()
        await client.read(lambda c: c.messages)
        await client.close()
        await live.unfollow()
        assert client.messages == ["b"]

    world.run(scenario())


def test_writers_that_commit_late_or_never_hold_nothing_back_for_good(world: Any) -> None:
    """Eight of them, with gaps and out of order; a client that leaves and comes back all the time."""
    database = world.settings.database_url.get_secret_value()
    stop = threading.Event()
    committed: list[str] = []

    def write(number: int) -> None:
        numbers = random.Random(number)
        connection = connect(database)
        count = 0
        with connection.cursor() as cursor:
            while not stop.is_set():
                names = [f"{number}-{count + place}" for place in range(3)]
                count += 3
                cursor.execute("BEGIN")
                cursor.execute(
                    "INSERT INTO event (id, email, environment, component, message, data)"
                    " SELECT gen_random_uuid(), 'a@b.c', 'e', 'c', name, '{}' FROM unnest(%s) AS name",
                    (names,),
                )
                time.sleep(numbers.random() * 0.03)
                if numbers.random() < 0.8:
                    cursor.execute("COMMIT")
                    committed.extend(names)
                else:
                    cursor.execute("ROLLBACK")
        connection.close()

    async def scenario() -> None:
        live = live_of(world)
        faithful = Client(world, live)
        await faithful.open()
        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for writer in writers:
            writer.start()
        seen: list[str] = []
        reached = faithful._sender._reached
        end = time.monotonic() + 4
        while time.monotonic() < end:
            restless = Client(world, live, after=reached)
            await restless.open()
            await restless.read(lambda c: len(c.messages) > 50)
            await restless.close()
            seen += restless.messages
            reached = restless.ids[-1]
        stop.set()
        for writer in writers:
            await in_thread(writer.join)
        expected = sorted(committed)
        await faithful.read(lambda c: len(c.messages) >= len(expected))
        last = Client(world, live, after=reached)
        await last.open()
        await last.read(lambda c: len(seen) + len(c.messages) >= len(expected))
        for client in (faithful, last):
            await client.close()
        assert sorted(faithful.messages) == expected
        assert sorted(seen + last.messages) == expected
        assert sorted(faithful.ids) == faithful.ids

    world.run(scenario())


def test_a_quiet_stream_shows_signs_of_life_that_move_its_position(world: Any) -> None:
    async def scenario() -> None:
        client = Client(world, live_of(world), "message eq 'x'", heartbeat=0.05)
        await client.open()
        seqs = await in_thread(world.store, "other")
        await client.read(lambda c: c.ids[-1:] == seqs)
        await client.close()
        assert client.beats

    world.run(scenario())


def test_a_slow_client_is_told_and_cut_off_and_can_go_on_later(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world, capacity=2000)
        slow = Client(world, live, grace=100)
        await slow.open()
        await slow.read(lambda c: live.listeners == 1)
        for number in range(40):
            await in_thread(world.store, f"m{number:02}")
            if number % 20 == 0:
                await live.reach(number + 1, 20)
        await live.reach(40, 20)
        await slow.read(lambda _: False)
        assert "came faster" in slow.errors[0]["detail"]
        await slow.close()
        again = Client(world, live, after=slow.ids[-1])
        await again.open()
        await again.read(lambda c: len(c.messages) + len(slow.messages) == 40)
        await again.close()
        assert slow.messages + again.messages == [f"m{number:02}" for number in range(40)]

    world.run(scenario())


def test_a_client_that_takes_nothing_at_all_is_ended_after_the_grace(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world, capacity=500)
        client = Client(world, live, grace=0.1)
        await client.open()
        listening, stuck = asyncio.Event(), asyncio.Event()

        async def send_to_nobody() -> None:
            await client.read(lambda _: live.listeners == 1)
            listening.set()
            await stuck.wait()  # a full socket, and nobody reads

        task = asyncio.create_task(send_to_nobody())
        await listening.wait()
        async with asyncio.timeout(10):
            while not task.done():
                await in_thread(world.store, "m")
        assert task.cancelled()
        await client.close()
        assert live.listeners == 0

    world.run(scenario())


def test_the_log_is_followed_by_one_connection_and_only_while_somebody_listens(world: Any) -> None:
    def followers() -> int:
        found = world.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'eventsvc live' AND datname = current_database()"
        )
        return int(found[0][0])

    async def scenario() -> None:
        live = live_of(world)
        clients = [Client(world, live, f"message eq '{number % 3}'") for number in range(60)]
        await asyncio.gather(*(client.open() for client in clients))
        await asyncio.gather(*(client.read(lambda _: live.listeners == 60) for client in clients))
        assert followers() == 1
        await in_thread(world.store, "0", "1", "2")
        await asyncio.gather(*(client.read(lambda c: c.messages) for client in clients))
        assert [client.messages for client in clients] == [[str(number % 3)] for number in range(60)]
        await asyncio.gather(*(client.close() for client in clients))
        assert live.listeners == 0

    world.run(scenario())
    world.wait_until(lambda: followers() == 0)


def test_without_postgresql_a_stream_is_refused(world: Any) -> None:
    live = Live("postgresql://postgres@127.0.0.1:1/none", render)
    with pytest.raises(LogUnavailable):
        world.run(live.follow())


def lose_after(world: Any, seq: int) -> None:
    """Make the log what it is after a failover that lost all events past a seq."""
    world.execute("DELETE FROM event WHERE seq > %s", (seq,))
    world.execute("SELECT setval('event_seq_seq', %s, false)", (seq + 1,))


def end_follower(world: Any) -> None:
    world.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'eventsvc live' AND datname = current_database()"
    )


def test_a_lost_connection_is_opened_again_and_nothing_is_missed(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world)
        client = Client(world, live)
        await client.open()
        await in_thread(world.store, "a")
        await client.read(lambda c: c.messages)
        await in_thread(end_follower, world)
        await in_thread(world.store, "b")
        await client.read(lambda c: len(c.messages) == 2)
        await client.close()
        assert client.messages == ["a", "b"]

    world.run(scenario())


@pytest.mark.parametrize("lost", [1, 3])
def test_after_a_failover_that_lost_events_a_client_gets_those_that_have_their_seqs_now(world: Any, lost: int) -> None:
    async def scenario() -> None:
        live = live_of(world)
        client = Client(world, live)
        await client.open()
        seqs = await in_thread(world.store, "a", "b", "c", "d")
        await client.read(lambda c: len(c.messages) == 4)
        await in_thread(lose_after, world, seqs[-1] - lost)
        assert (await in_thread(world.store, "new 1", "new 2"))[0] == seqs[-lost]
        await in_thread(end_follower, world)
        await client.read(lambda c: len(c.messages) == 6)
        await in_thread(world.store, "new 3", "new 4")
        await client.read(lambda c: len(c.messages) == 8)
        await client.close()
        assert client.messages == ["a", "b", "c", "d", "new 1", "new 2", "new 3", "new 4"]

    world.run(scenario())


def test_a_client_that_was_sent_nothing_yet_gets_what_comes_after_a_failover(world: Any) -> None:
    async def scenario() -> None:
        seqs = await in_thread(world.store, "old", "lost 1", "lost 2")
        live = live_of(world)
        client = Client(world, live)
        await client.open()
        await client.read(lambda _: live.listeners == 1)
        await in_thread(lose_after, world, seqs[0])
        await in_thread(end_follower, world)
        await client.read(lambda _: live.reached == seqs[0])
        await in_thread(world.store, "new")
        await client.read(lambda c: c.messages)
        await client.close()
        assert client.messages == ["new"]

    world.run(scenario())


def test_a_client_is_told_if_a_failover_has_lost_more_than_is_remembered(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world)
        client = Client(world, live)
        await client.open()
        seqs = await in_thread(world.store, "a", "b")
        await client.read(lambda c: len(c.messages) == 2)
        await in_thread(lose_after, world, seqs[0] - 1)
        await in_thread(world.store, "new 1", "new 2", "new 3")
        await in_thread(end_follower, world)
        await client.read(lambda _: False)
        assert client.messages == ["a", "b"]
        assert client.errors[0]["detail"] == BROKEN

    world.run(scenario())


def test_the_end_of_the_service_ends_every_stream(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world)
        client = Client(world, live, heartbeat=60)
        await client.open()
        await client.read(lambda _: live.listeners == 1)
        live.end()
        await client.read(lambda _: False)
        await client.close()

    world.run(scenario())


def test_topics_of_equal_text_share_a_group(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world)
        await live.follow()
        topic = Topic("x", lambda _: True)
        first, second = live.listen(topic, live.reached), live.listen(topic, live.reached)
        assert first is not None
        assert second is not None
        assert live.listen(topic, live.reached + 1) is None
        live.leave(first)
        assert live.listeners == 1
        live.leave(second)
        await live.unfollow()

    world.run(scenario())


def test_a_client_that_comes_back_gets_what_a_long_transaction_commits_after_it(world: Any, database: str) -> None:
    """Nobody listens on this worker, so nobody knows how far it is certain that nothing can come any more."""
    (last,) = world.store("before")
    long = connect(database)
    with long.cursor() as cursor:
        cursor.execute(
            "BEGIN; INSERT INTO event (id, email, environment, component, message, data)"
            " SELECT gen_random_uuid(), 'a@b.c', 'e', 'c', 'long ' || i, '{}' FROM generate_series(1, 3) AS i"
        )
        world.store("after")

        async def scenario() -> None:
            live = live_of(world)
            client = Client(world, live, after=last, heartbeat=0.1)
            await client.open()
            await client.read(lambda c: c.beats > 12)  # more than a second, and signs of life all the time
            assert client.messages == []
            await in_thread(cursor.execute, "COMMIT")
            await client.read(lambda c: len(c.messages) == 4)
            await client.close()
            assert client.messages == ["long 1", "long 2", "long 3", "after"]

        world.run(scenario())
    long.close()


def test_when_the_tail_breaks_every_client_is_told_and_a_new_one_is_served(world: Any) -> None:
    def render_or_fail(event: Any) -> bytes:
        if event.message == "poison":
            raise ValueError(event.message)
        return render(event)

    async def scenario() -> None:
        live = Live(world.settings.database_url.get_secret_value(), render_or_fail, poll=0.02)
        world.opened.append(live.close)
        client = Client(world, live)
        await client.open()
        await client.read(lambda _: live.listeners == 1)
        await in_thread(world.store, "poison")
        await client.read(lambda _: False)
        assert client.errors[0]["detail"] == BROKEN
        again = Client(world, live)
        await again.open()
        await client.close()
        await in_thread(world.store, "fine")
        await again.read(lambda c: c.messages)
        await again.close()
        assert again.messages == ["fine"]

    world.run(scenario())


def test_a_query_that_takes_too_much_work_is_ended_and_the_others_go_on(world: Any) -> None:
    threads: set[int] = set()

    def toil(_: Any) -> bool:
        threads.add(threading.get_ident())
        began = time.thread_time()
        while time.thread_time() - began < 1.1:  # more than a query saves up
            pass
        return True

    async def scenario() -> None:
        live = live_of(world)
        client = Client(world, live)
        await client.open()
        await client.read(lambda _: live.listeners == 1)
        hard = live.listen(Topic("hard", toil), live.reached)
        assert hard is not None
        await in_thread(world.store, *(f"m{number}" for number in range(20)))
        await client.read(lambda c: len(c.messages) == 20)
        assert hard.lost == TOO_MUCH_WORK
        assert threading.get_ident() not in threads  # never in the event loop
        live.leave(hard)
        await client.close()

    world.run(scenario())


def test_what_waits_for_a_client_is_bounded_in_bytes_however_much_comes_at_once(world: Any) -> None:
    async def scenario() -> None:
        live = live_of(world, capacity=300_000)
        await live.follow()
        reading, stuck = (live.listen(Topic("", lambda _: True), live.reached) for _ in range(2))
        assert reading is not None
        assert stuck is not None
        await in_thread(world.store, *("m" for _ in range(60)), data=f'{{"x": "{"y" * 60_000}"}}')
        most = events = 0
        async with asyncio.timeout(30):
            while events < 60:
                events += (await reading.take(0.1)).count(b"data: ")
                most = max(most, stuck._size)
        assert (reading.lost, stuck.lost, most <= 300_000) == ("", TOO_SLOW, True)
        await live.unfollow()

    world.run(scenario())
