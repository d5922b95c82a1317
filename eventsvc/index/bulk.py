"""Send documents by _bulk: one result an item, and new attempts while Elasticsearch is busy or away."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import elasticsearch
import orjson
import structlog
from elasticsearch import Elasticsearch

from eventsvc.errors import EventsvcError, IndexUnavailable
from eventsvc.event import Event
from eventsvc.index.client import translate_errors
from eventsvc.index.indexes import write_alias
from eventsvc.index.mapping import to_document

# Elasticsearch does best with a few megabytes a request; its limit is 100.
MOST_BYTES = 5_000_000

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 3.0  # seconds

# Documents are not sent when they were read longer ago than this. Their process may have been frozen, while their
# events were erased; and Elasticsearch knows the versions of deleted documents for two minutes (see mapping.py).
_MOST_AGE = 60.0  # seconds
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
# Errors that lie in the document itself. Other errors may pass, such as a revoked privilege or a closed index.
_OF_DOCUMENT = frozenset(
    {
        "document_parsing_exception",
        "mapper_parsing_exception",
        "strict_dynamic_mapping_exception",
        "version_conflict_engine_exception",  # when a document is deleted
    }
)
_MOST_SUSPECTS = 10  # refused requests with a single item; if so many are refused and none is answered, sending ends
_logger = structlog.get_logger()


class IndexVanished(EventsvcError):
    """An index is gone: its month must be indexed again."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"index {name} is gone")


class Stopped(EventsvcError):
    """The sender was told to stop, or the documents became too old, before everything was sent."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line pair of a _bulk request: an action and, if it writes, a document."""

    seq: int
    index: str
    lines: bytes


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """An item that Elasticsearch will never take."""

    item: Item
    reason: str


def write_item(event: Event, index: str, *, version: int | None = None) -> Item:
    """Encode the action that writes an event's document, or replaces the document if it exists.

    Args:
        event: the event.
        index: the name of the index.
        version: the document's version. A late request of a process that hung changes no document that was written or
            deleted with a higher version (see the settings in mapping.py). None: the request always wins.
    """
    if version is None:
        action = b'{"index":{"_index":"%s","_id":"%d"}}\n' % (write_alias(index).encode(), event.seq)
    else:
        action = b'{"index":{"_index":"%s","_id":"%d","version":%d,"version_type":"external_gte"}}\n' % (
            write_alias(index).encode(),
            event.seq,
            version,
        )
    return Item(event.seq, index, action + orjson.dumps(to_document(event)) + b"\n")


def delete_item(index: str, document: str) -> Item:
    """Encode the action that deletes a document by its id. A document that does not exist is no error."""
    action = {"delete": {"_index": write_alias(index), "_id": document}}
    return Item(int(document) if document.isdecimal() else 0, index, orjson.dumps(action) + b"\n")


def erase_item(index: str, seq: int, version: int | None = None) -> Item:
    """Encode the action that deletes an event's document for good: no late request can bring the document back.

    The version of a document is a fence, and a fence is a time in ms (see watermark.py).

    Args:
        index: the name of the index.
        seq: the event.
        version: the fence of a term: this term and later terms may write a document of this seq again. None: a time one
            minute in the future, which is above every fence so far, even if clocks differ.
    """
    version = version or time.time_ns() // 1_000_000 + 60_000
    which = {"_index": write_alias(index), "_id": str(seq), "version": version, "version_type": "external_gte"}
    action = {"delete": which}
    return Item(seq, index, orjson.dumps(action) + b"\n")


def backoff(attempt: int) -> float:
    """Give the seconds to wait before the next attempt: longer each time, and random so that clients spread out."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


def send(
    client: Elasticsearch, items: Sequence[Item], stop: threading.Event, *, read_at: float | None = None
) -> list[RefusedItem]:
    """Send until every item is stored or refused; keep trying while Elasticsearch is busy or away.

    Args:
        client: the client of Elasticsearch.
        items: the items.
        stop: ends the attempts when it is set.
        read_at: when the events were read from the log (``time.monotonic``). A minute later they are too old to be
            sent. None: the items have no age.

    Raises:
        IndexVanished: an index does not exist.
        IndexUnavailable: the cause lies in no document, for instance a revoked privilege.
        Stopped: ``stop`` was set, or the events became too old, before everything was sent.
    """
    sending = _Sending(client, items)
    attempt = 0
    while sending.waiting:
        if read_at is not None and time.monotonic() - read_at > _MOST_AGE:
            raise Stopped("the events were read too long ago: they must be read again")
        if sending.send_next():
            attempt = 0
            continue
        attempt += 1
        if stop.wait(backoff(attempt)):
            raise Stopped("told to stop")
    return sending.all_refused()


def erase(client: Elasticsearch, items: Sequence[Item], stop: threading.Event) -> None:
    """Send items of ``erase_item`` until every document is deleted; see ``send`` for the errors."""
    refused = send(client, items, stop)
    # A wrong clock has written versions from the future. Delete these documents without a version.
    send(client, [delete_item(one.item.index, str(one.item.seq)) for one in refused], stop)


class _Sending:
    """Cuts items into requests, and collects the results.

    Attributes:
        waiting: the parts still to be sent, the next part last.
    """

    def __init__(self, client: Elasticsearch, items: Sequence[Item]) -> None:
        self._client = client
        self.waiting = list(_cut(items, MOST_BYTES))[::-1]
        self._refused: list[RefusedItem] = []
        # Single items whose request was refused as a whole.
        self._suspects: list[RefusedItem] = []
        self._answered = False

    def send_next(self) -> bool:
        """Send one part; False if some items must be sent again after a pause."""
        part = self.waiting.pop()
        again = part
        try:
            again = _send_once(self._client, part, self._refused)
            self._answered = True
        except elasticsearch.ApiError as exc:
            if exc.status_code in {400, 413}:
                self._find_culprit(part, exc)
                return True
            if exc.status_code not in _BUSY:
                with translate_errors():
                    raise
            _logger.warning("bulk request refused, will be sent again", status=exc.status_code, events=len(part))
        except elasticsearch.ConnectionTimeout:
            _logger.warning("bulk request not answered in time, will be sent again in halves", events=len(part))
            self._halve(part)
            return False
        except elasticsearch.TransportError as exc:
            _logger.warning("bulk request failed, will be sent again", error=type(exc).__name__, events=len(part))
        if again:
            self.waiting.append(again)
        return not again

    def _halve(self, part: list[Item]) -> None:
        """Cut a part in two, because a slow Elasticsearch copes better with less at a time."""
        middle = len(part) // 2
        self.waiting += [half for half in (part[middle:], part[:middle]) if half]

    def _find_culprit(self, part: list[Item], exc: elasticsearch.ApiError) -> None:
        """Halve a part whose request was refused as a whole, until a single item is left."""
        if len(part) > 1:
            self._halve(part)
            return
        found = RefusedItem(part[0], f"the request was answered {exc.status_code}")
        if exc.status_code == 413:  # noqa: PLR2004
            self._refused.append(found)
            return
        self._suspects.append(found)
        if len(self._suspects) >= _MOST_SUSPECTS:
            self._check_suspects()

    def _check_suspects(self) -> None:
        """Raise IndexUnavailable if no request was answered: then the fault lies in no document."""
        if self._suspects and not self._answered:
            raise IndexUnavailable(f"Elasticsearch refuses every bulk request: {self._suspects[0].reason}")

    def all_refused(self) -> list[RefusedItem]:
        """List the items that Elasticsearch will never take."""
        self._check_suspects()
        return self._refused + self._suspects


def _cut(items: Sequence[Item], most_bytes: int) -> Iterator[list[Item]]:
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + len(item.lines) > most_bytes:
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item.lines)
    if part:
        yield part


def _send_once(client: Elasticsearch, items: list[Item], refused: list[RefusedItem]) -> list[Item]:
    """Send one request; return the items that must be sent again."""
    answer = client.bulk(
        operations=b"".join(item.lines for item in items),  # type: ignore[arg-type]  # bytes go through as they are
        require_alias=True,
        include_source_on_error=False,
        filter_path="errors,items.*.status,items.*.error.type,items.*.error.reason",
    )
    if not answer["errors"]:
        return []
    again, reasons = [], set()
    for item, outcome in zip(items, answer["items"], strict=True):
        ((kind, result),) = outcome.items()
        error = result.get("error")
        if error is None or (kind == "index" and error["type"] == "version_conflict_engine_exception"):
            continue  # the document is stored, or a document with a higher version is in its place
        if error["type"] == "index_not_found_exception":
            raise IndexVanished(item.index)
        if error["type"] in _OF_DOCUMENT:
            refused.append(RefusedItem(item, _describe(error)))
        elif result["status"] in _BUSY or error["type"] == "cluster_block_exception":
            again.append(item)
            reasons.add(_describe(error))
        else:
            raise IndexUnavailable(f"Elasticsearch does not take documents: {_describe(error)}")
    if again:
        _logger.warning("bulk items refused for now, will be sent again", events=len(again), reason=min(reasons))
    return again


_QUOTED = re.compile(r"(?:Preview of|The prefix of|[Oo]riginal message).*", re.DOTALL)


def _describe(error: dict[str, Any]) -> str:
    """Write an error's type and reason without quotes of the event, because erasing must leave no copy of an event."""
    return f"{error['type']}: {_QUOTED.sub('', error.get('reason') or '')}"[:500].strip(" .")
