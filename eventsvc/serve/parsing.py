"""Changes of how uvicorn parses the bytes of a connection.

``IgnoringUpgrades``: a request may offer another protocol in the field Upgrade, and the service ignores the offer
(RFC 9110, section 7.8). Java's HttpClient offers HTTP/2 with every request, and so does curl with --http2. The parser
of httptools would skip the body of such a request. So its head is parsed once more, without the offer.

``ParsingInParts``: what a client sends at once is parsed in parts, so that other clients have their turn in between.
"""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# PERF: 10,000 chunks fit into this, and each calls us back.
_AT_ONCE = 64 * 1024  # bytes


class IgnoringUpgrades(HttpToolsProtocol):
    """uvicorn's connection, for which no request offers another protocol.

    Attributes:
        is_offer: the request offers another protocol, so its head will be parsed once more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.is_offer = False

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.is_offer = False
        super().on_message_begin()

    def check_offer(self) -> bool:
        """Tell at the end of a head whether the request offers another protocol."""
        self.is_offer = self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers)
        return self.is_offer

    def write_head(self) -> bytes:
        """Write the head of the request without the offer."""
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([line, *fields, b"", b""])


class _Parser(httptools.HttpRequestParser):
    """Parses a request with an offer once more from its beginning."""

    def __init__(self, connection: IgnoringUpgrades) -> None:
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: Any) -> None:
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                if not self._connection.is_offer:
                    raise
                data = self._connection.write_head() + data[exc.args[0] :]
            else:
                return


class ParsingInParts(IgnoringUpgrades):
    """uvicorn's connection, which parses at most 64 KiB in one round of the event loop.

    Attributes:
        unparsed: received bytes that wait; reading is paused until they are parsed.
    """

    unparsed = b""

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, a part at a time."""
        if len(data) <= _AT_ONCE:
            self.parse(data)
        else:
            self.unparsed = data
            self._parse_part()

    def parse(self, data: bytes) -> None:
        """Parse some bytes."""
        super().data_received(data)

    def _parse_part(self) -> None:
        part, self.unparsed = self.unparsed[:_AT_ONCE], self.unparsed[_AT_ONCE:]
        if not part or self.parser is None or self.transport.is_closing():
            self.unparsed = b""
            return
        self.parse(part)
        if self.unparsed:
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_part)
        elif self.cycle is None or len(self.cycle.body) <= HIGH_WATER_LIMIT:  # else the app resumes when it reads
            self.flow.resume_reading()
