"""Parse what a client sends at once in parts, so that other clients have their turn in between."""

from __future__ import annotations

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from eventsvc.serve.upgrades import IgnoringUpgrades

# PERF: 10,000 chunks fit into this, and each calls us back.
_AT_ONCE = 64 * 1024  # bytes


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
