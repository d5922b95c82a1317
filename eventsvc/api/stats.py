"""GET /event/stats: how many events match, when, and with which values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import falcon
import orjson

from eventsvc.api.find import describe_source
from eventsvc.api.page import choice, plain_parameters, read_query, whole_number
from eventsvc.errors import InvalidParameter
from eventsvc.event import format_time
from eventsvc.search.stats import MOST_BUCKETS, STEPS, UNITS, Counts, Wanted

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.search.stats import Stats

PARAMETERS = ("q", "tz", "interval", "by", "top", "consistency")
_BY = ("environment", "component", "email")
_TOP, _MOST_TOP = 10, 1000


class StatsResource:
    """The resource."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    async def on_get(self, req: Request, resp: Response) -> None:
        """Count."""
        given = plain_parameters(req, PARAMETERS)
        query = read_query(req, given, round(time.time() * 1000))
        wanted = Wanted(
            interval=choice(given, "interval", ("", *STEPS, *UNITS)),
            zone=given.get("tz", "UTC"),
            by=choice(given, "by", ("", *_BY)),
            top=whole_number(given, "top", _TOP, 1, _MOST_TOP),
        )
        strong = choice(given, "consistency", ("strong", "eventual")) == "strong"
        answer = await self._stats.count(query, wanted, strong=strong)
        describe_source(resp, answer.provenance)
        resp.set_header("Cache-Control", "private, no-cache")
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(_render(answer.counts, wanted))


def _render(counts: Counts, wanted: Wanted) -> dict[str, Any]:
    """Give the JSON form; buckets without events are left out."""
    result: dict[str, Any] = {"count": counts.total}
    if wanted.interval:
        if len(counts.buckets) > MOST_BUCKETS:
            detail = f"these events fill more than {MOST_BUCKETS:,} stretches of time: take a longer interval"
            raise InvalidParameter("interval", detail)
        result |= {"interval": wanted.interval, "tz": wanted.zone}
        result["buckets"] = [{"start": format_time(s), "count": n} for s, n in sorted(counts.buckets.items())]
    if wanted.by:
        top = sorted(counts.values.items(), key=lambda item: (-item[1], item[0]))[: wanted.top]
        result |= {"by": wanted.by, "top": [{"value": value, "count": n} for value, n in top]}
        result["other"] = counts.total - sum(n for _, n in top)
    return result
