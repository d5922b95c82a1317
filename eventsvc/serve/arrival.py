"""The request that arrives on a connection: its size, the time that it takes, and the rules that it must follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eventsvc.serve.bounds import Bounds

_LONGEST_LINE = 8190  # bytes of a request line
_LARGEST_HEAD = 64 * 1024  # bytes of all header fields
_MOST_FIELDS = 100
# Bytes that the parser may read without calling us, for instance within a field that never ends.
_LARGEST_SILENCE = _LARGEST_HEAD + _LONGEST_LINE
# A chunk may carry a single byte, and may have an extension of any length: a body may be this much larger on the wire.
_FRAMING, _FRAMING_RATIO = 1024 * 1024, 16  # bytes, and bytes for each byte of the body

_HOST = re.compile(rb"[A-Za-z0-9.\-_~%!$&'()*+,;=:\[\]]*")


class Rejection(NamedTuple):
    """The reason why a request is refused.

    Attributes:
        status: the status of the answer.
        detail: what is wrong, without a word of the request.
    """

    status: int
    detail: str


class Arrival:
    """The request that a connection receives now.

    Attributes:
        part: the part of the request that is not complete: "head" or "body"; "" between two requests.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.part = ""
        self._waited = 0.0
        self._received = 0  # bytes received of this part
        self._carried = 0  # bytes of the body, without chunk headers
        self._silence = 0  # bytes that the parser has read without calling us
        self._head_size = 0

    def begin_head(self) -> None:
        """Begin a request."""
        self.part, self._waited, self._received = "head", 0.0, 0
        self._silence = self._head_size = 0

    def begin_body(self) -> None:
        """Begin the body, after the head is complete."""
        self.part, self._waited, self._received, self._carried = "body", 0.0, 0, 0

    def end(self) -> None:
        """End the request."""
        self.part, self._silence = "", 0

    def count(self, size: int) -> None:
        """Count received bytes, before they are parsed."""
        self._received += size
        self._silence += size

    def count_body(self, size: int) -> None:
        """Count parsed bytes of the body."""
        self._silence = 0
        self._carried += size

    def check_size(self) -> Rejection | None:
        """Refuse a field whose end the parser does not find, and a body that is mostly chunk headers."""
        if self._silence > _LARGEST_SILENCE:
            return Rejection(431, f"The header fields are larger than {_LARGEST_HEAD:,} bytes.")
        if self.part == "body" and self._received > _FRAMING + _FRAMING_RATIO * self._carried:
            return Rejection(400, "The chunks of the body are smaller than their headers.")
        return None

    def wait(self, seconds: float) -> Rejection | None:
        """Add to the time that the client has taken to send this part, and refuse a part that takes too long."""
        bounds = self._bounds
        self._waited += seconds
        if self.part == "head" and self._waited > bounds.head_seconds:
            return Rejection(408, f"The head of the request did not come within {bounds.head_seconds:g} s.")
        if self.part == "body" and self.arrears > bounds.body_seconds:
            first, rate = bounds.body_seconds, bounds.body_rate
            return Rejection(408, f"The body did not come within {first:g} s and one more for each {rate:,} bytes.")
        return None

    @property
    def arrears(self) -> float:
        """How many seconds this part is late: all that it takes, but a body has one for each ``body_rate`` bytes."""
        if self.part == "body":
            return self._waited - self._received / self._bounds.body_rate
        return self._waited if self.part else 0.0

    def count_field(self, name: bytes, value: bytes, fields: int) -> Rejection | None:
        """Count a header or trailer field, and refuse too many or too large fields.

        Args:
            name: the name of the field.
            value: the value of the field.
            fields: the number of earlier fields of this request.
        """
        self._head_size += len(name) + len(value)
        if self._head_size > _LARGEST_HEAD or fields >= _MOST_FIELDS:
            return Rejection(
                431, f"A request may have {_MOST_FIELDS} header fields with {_LARGEST_HEAD:,} bytes in all."
            )
        return None


def check_line(method: bytes, target: bytes) -> Rejection | None:
    """Refuse a request line that is too long; the target may be incomplete."""
    if len(method) + len(target) + len("  HTTP/1.1") > _LONGEST_LINE:
        return Rejection(414, f"A request line may have {_LONGEST_LINE:,} bytes.")
    return None


def check_head(version: str, headers: Sequence[tuple[bytes, bytes]]) -> Rejection | None:
    """Refuse a head that breaks a rule of RFC 9112 (sections 2.3, 3.2 and 6.1) which the parser does not check."""
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings[1:] or codings[0].strip().lower() != b"chunked"):
        return Rejection(501, "Transfer-Encoding may be chunked alone.")
    if version not in {"1.0", "1.1"}:
        return Rejection(505, "This service speaks HTTP/1.1 and HTTP/1.0.")
    if codings and version != "1.1":
        return Rejection(400, "Transfer-Encoding needs HTTP/1.1.")
    if len(hosts) != 1 and (hosts or version == "1.1"):
        return Rejection(400, "A request has one Host header.")
    if hosts and not _HOST.fullmatch(hosts[0].strip()):
        return Rejection(400, "Host is not the name of a host.")
    return None
