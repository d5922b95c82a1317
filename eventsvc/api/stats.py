"""GET /event/stats: the number of matching events over time and by their values, and sums of their numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import falcon
import msgspec
import orjson

from eventsvc.api.events import describe_source
from eventsvc.api.parameters import choice, plain_parameters, read_paths, read_query, read_subjects, whole_number
from eventsvc.errors import InvalidParameter
from eventsvc.event import format_time
from eventsvc.fields import FIELDS, Kind
from eventsvc.search.counts import MOST_BUCKETS, MOST_CELLS, STEPS, UNITS, CountRequest, Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from falcon.asgi import Request, Response

    from eventsvc.log.read.counts import Combination, Measured
    from eventsvc.query import ast
    from eventsvc.search.stats import Stats

PARAMETERS = (
    "q", "tz", "asOf", "interval", "time", "by", "top", "limit", "distinct", "numbers", "percentiles", "consistency",
)  # fmt: skip
_TOP, _MOST_TOP = 10, 1000
_MOST_SUBJECTS = 4
_PERCENTILES, _MOST_PERCENTILES = "50,95,99", 20
TIMES = tuple(field.name for field in FIELDS.values() if field.kind is Kind.TIME)


class StatsResource:
    """The resource of /event/stats."""

    types = (falcon.MEDIA_JSON,)

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the counts."""
        given = plain_parameters(req, PARAMETERS)
        query = await read_query(req, given, round(time.time() * 1000))
        named = "".join(given.get(name, "") for name in ("by", "distinct", "numbers"))
        by, distinct, numbers = await req.context.query_thread.run(named, lambda: _read_named(given))
        percentiles = _read_percentiles(given)
        request = CountRequest(
            interval=choice(given, "interval", ("", *STEPS, *UNITS)),
            zone=given.get("tz", "UTC"),
            by=tuple(by.values()),
            top=_read_top(given),
            time=choice(given, "time", TIMES),
            distinct=tuple(distinct.values()),
            numbers=tuple(numbers.values()),
            percentiles=tuple(percentiles.values()) if numbers else (),
        )
        strong = choice(given, "consistency", ("strong", "eventual")) == "strong"
        counts = await self._stats.count(query, request, strong=strong)
        result = _render(counts, request, list(by))
        if distinct:
            result["distinct"] = dict(zip(distinct, counts.distinct, strict=True))
        if numbers:
            measured = [_render_numbers(each, list(percentiles)) for each in counts.numbers]
            result["numbers"] = dict(zip(numbers, measured, strict=True))
        describe_source(resp, counts.provenance)
        resp.set_header("Cache-Control", "private, no-cache")
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(result)


def _read_named(
    given: Mapping[str, str],
) -> tuple[dict[str, ast.Subject], dict[str, ast.Subject], dict[str, ast.Path]]:
    by, distinct = (read_subjects(given, name, most=_MOST_SUBJECTS) for name in ("by", "distinct"))
    return by, distinct, read_paths(given, "numbers", most=_MOST_SUBJECTS)


def _read_top(given: Mapping[str, str]) -> int:
    if "top" in given and "limit" in given:
        raise InvalidParameter("limit", "it is another name of top; give one of the two")
    return whole_number(given, "limit" if "limit" in given else "top", _TOP, 1, _MOST_TOP)


def _read_percentiles(given: Mapping[str, str]) -> dict[str, float]:
    if "percentiles" in given and "numbers" not in given:
        raise InvalidParameter("percentiles", "they are of numbers, so give numbers as well, e.g. numbers=data.amount")
    found: dict[str, float] = {}
    for text in given.get("percentiles", _PERCENTILES).split(","):
        try:
            found[text.strip()] = float(text)
        except ValueError:
            found[text.strip()] = -1.0
    if not all(0 <= each <= 100 for each in found.values()):  # noqa: PLR2004
        raise InvalidParameter("percentiles", "they are numbers from 0 to 100, separated by commas")
    if len(found) > _MOST_PERCENTILES:
        raise InvalidParameter("percentiles", f"at most {_MOST_PERCENTILES} can be given")
    return found


def _render(counts: Counts, request: CountRequest, names: list[str]) -> dict[str, Any]:
    """Give the JSON form of counts; buckets without events are left out."""
    result: dict[str, Any] = {"count": counts.total}
    if request.interval:
        if len(counts.buckets) > MOST_BUCKETS:
            detail = f"these events fill more than {MOST_BUCKETS:,} stretches of time: take a longer interval"
            raise InvalidParameter("interval", detail)
        result |= {"interval": request.interval, "tz": request.zone, "time": request.time}
        result["buckets"] = _render_buckets(counts.buckets)
    if names:
        top = counts.top(request.top)
        result |= {"by": ",".join(names), "top": [_render_value(key, counts, request) for key in top]}
        result["other"] = counts.valued - sum(counts.values[key] for key in top)
        result["missing"] = counts.missing
        if sum(map(len, counts.cells.values())) > MOST_CELLS:
            detail = f"the top values fill more than {MOST_CELLS:,} stretches of time: take a longer interval, or fewer"
            raise InvalidParameter("interval", detail)
    return result


def _render_buckets(buckets: Mapping[int, int]) -> list[dict[str, Any]]:
    return [{"start": format_time(start), "count": number} for start, number in sorted(buckets.items())]


def _render_value(key: Combination, counts: Counts, request: CountRequest) -> dict[str, Any]:
    values = [_decode(code) for code in key]
    entry: dict[str, Any] = {"value": values[0]} if len(values) == 1 else {"values": values}
    entry["count"] = counts.values[key]
    if request.interval:
        entry["buckets"] = _render_buckets(counts.cells.get(key, {}))
    return entry


def _decode(code: str) -> Any:
    """Give the JSON form of a coded value; see ``log.read.counts``."""
    match code[0]:
        case "s":
            return code[2:]
        case "n":
            return orjson.Fragment(code[2:])
        case "b":
            return code == "b:true"
        case _:
            return None


def _render_numbers(measured: Measured, percentiles: list[str]) -> dict[str, Any]:
    def show(number: msgspec.Raw) -> orjson.Fragment:
        return orjson.Fragment(bytes(number))

    found = [None] * len(percentiles) if measured.percentiles is None else map(show, measured.percentiles)
    return {
        "count": measured.count,
        **{name: show(getattr(measured, name)) for name in ("min", "max", "sum", "avg")},
        "percentiles": dict(zip(percentiles, found, strict=True)),
    }
