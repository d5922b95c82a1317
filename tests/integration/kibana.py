"""What Kibana's saved objects ask of Elasticsearch: a panel becomes the search that Kibana would send.

Written after Kibana's own sources for Lens' form-based columns and for KQL's translation; it knows what our file uses
and fails on everything else, so that a new kind of panel cannot go by unchecked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "config" / "kibana" / "dashboards.ndjson"

# Operation of Lens → types of fields that support it, as Lens' own `getPossibleOperationForField` has it.
SUPPORTS = {
    "date_histogram": {"date"},
    "terms": {"keyword", "long", "date", "ip", "boolean"},
    "unique_count": {"keyword", "long", "date", "ip", "boolean"},
    "optionsListControl": {"keyword", "ip", "boolean"},
    "sort": {"keyword", "long", "date"},
    "full text": {"text"},
    "column": {"keyword", "long", "date", "text", "flattened"},
}
_NEEDS_DOC_VALUES = {"date_histogram", "terms", "unique_count", "optionsListControl", "sort"}
_OPTIONS_IN_A_LIST = 10


@dataclass(frozen=True)
class Use:
    """A field, and what something does with it."""

    where: str
    field: str
    operation: str


@dataclass
class Panel:
    """One thing on a screen that asks something."""

    title: str
    body: dict[str, Any]
    uses: list[Use] = field(default_factory=list)


def read_objects(path: Path = FILE) -> dict[tuple[str, str], dict[str, Any]]:
    """All objects by type and id; the last line, which counts them, is checked and left out."""
    *objects, summary = [json.loads(line) for line in path.read_text().splitlines()]
    assert summary["exportedCount"] == len(objects)
    assert summary["missingReferences"] == summary["excludedObjects"] == []
    by_id = {(found["type"], found["id"]): found for found in objects}
    assert len(by_id) == len(objects), "two objects have the same id"
    return by_id


def panels(dashboard: dict[str, Any]) -> Iterator[Panel]:
    """The Lens panels of a dashboard."""
    for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
        if panel["type"] == "lens":
            yield _lens(panel["title"], panel["embeddableConfig"]["attributes"]["state"])
        else:
            assert panel["type"] == "search", f"a panel of type {panel['type']} is not checked"


def controls(dashboard: dict[str, Any]) -> Iterator[Panel]:
    """The controls of a dashboard: lists of a field's values."""
    for control in json.loads(dashboard["attributes"]["controlGroupInput"]["panelsJSON"]).values():
        assert control["type"] == "optionsListControl"
        name, title = control["explicitInput"]["fieldName"], control["explicitInput"]["title"]
        body = {"size": 0, "aggs": {"0": {"terms": {"field": name, "size": _OPTIONS_IN_A_LIST}}}}
        yield Panel(title, body, [Use(title, name, "optionsListControl")])


def saved_search(found: dict[str, Any]) -> Panel:
    """A saved search: its first page."""
    attributes = found["attributes"]
    title, source = attributes["title"], json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
    query = kql(source["query"]["query"])
    uses = [Use(title, column, "column") for column in attributes["columns"]]
    uses += [Use(title, name, "sort") for name, _ in attributes["sort"]]
    uses += [Use(title, name, "full text") for name in kql_fields(source["query"]["query"])]
    if "breakdownField" in attributes:
        uses.append(Use(title, attributes["breakdownField"], "terms"))
    sort = [{name: {"order": order}} for name, order in attributes["sort"]]
    columns = [{"field": column} for column in attributes["columns"]]
    return Panel(title, {"query": query, "sort": sort, "fields": columns, "_source": False}, uses)


def _lens(title: str, state: dict[str, Any]) -> Panel:
    ((_, layer),) = state["datasourceStates"]["formBased"]["layers"].items()
    columns, order = layer["columns"], layer["columnOrder"]
    assert set(columns) == set(order)
    assert not state["filters"]
    query = state["query"]["query"]
    uses = [Use(title, c["sourceField"], c["operationType"]) for c in columns.values() if c["operationType"] != "count"]
    uses += [Use(title, name, "full text") for name in kql_fields(query)]
    shown = set(
        re.findall(r'"(?:accessors|columnId|metricAccessor|splitAccessor|xAccessor)":\[?"([^"]+)"', _text(state))
    )
    assert shown >= set(order), f"{title}: a column is computed and not shown"
    assert set(order) >= shown - {"_"}, f"{title}: a column is shown and not computed"
    return Panel(title, {"size": 0, "track_total_hits": True, "query": kql(query), "aggs": _aggs(columns, order)}, uses)


def _text(state: dict[str, Any]) -> str:
    return json.dumps(state["visualization"], separators=(",", ":"))


def _aggs(columns: dict[str, Any], order: list[str]) -> dict[str, Any]:
    if not order:
        return {}
    first, rest = order[0], order[1:]
    column = columns[first]
    match column["operationType"]:
        case "count":
            assert column["sourceField"] == "___records___"
            return _aggs(columns, rest)  # the count is the number of documents of each bucket
        case "unique_count":
            return {first: {"cardinality": {"field": column["sourceField"]}}, **_aggs(columns, rest)}
        case "date_histogram":
            return {
                first: {
                    "date_histogram": {"field": column["sourceField"], "fixed_interval": "1h"},
                    **_nest(columns, rest),
                }
            }
        case "terms":
            params = column["params"]
            by = columns[params["orderBy"]["columnId"]]
            assert by["operationType"] == "count", "only ordering by count is checked"
            terms = {
                "field": column["sourceField"],
                "size": params["size"],
                "order": {"_count": params["orderDirection"]},
            }
            return {first: {"terms": terms, **_nest(columns, rest)}}
        case other:
            raise AssertionError(f"operation {other} is not checked")


def _nest(columns: dict[str, Any], rest: list[str]) -> dict[str, Any]:
    inner = _aggs(columns, rest)
    return {"aggs": inner} if inner else {}


_KQL = re.compile(r"(?P<field>[\w.@]+) : \((?P<words>[\w*]+(?: or [\w*]+)*)\)")


def kql(text: str) -> dict[str, Any]:
    """What Kibana makes of KQL: `field : (word or prefix*)`, or nothing at all."""
    if not text:
        return {"match_all": {}}
    match = _KQL.fullmatch(text)
    assert match, f"this KQL is not checked: {text}"
    return {
        "bool": {
            "should": [_kql_word(match["field"], word) for word in match["words"].split(" or ")],
            "minimum_should_match": 1,
        }
    }


def _kql_word(name: str, word: str) -> dict[str, Any]:
    if "*" in word:
        return {"query_string": {"fields": [name], "query": word}}
    return {"match": {name: word}}


def kql_fields(text: str) -> list[str]:
    """The fields that a KQL query names."""
    return [match["field"] for match in _KQL.finditer(text)]


def field_mapping(properties: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping of a field, aliases followed.

    Raises:
        KeyError: there is none.
    """
    found: dict[str, Any] = {"properties": properties}
    for part in name.split("."):
        found = (found.get("properties") or found.get("fields") or {})[part]
    return field_mapping(properties, found["path"]) if found.get("type") == "alias" else found


def fault(properties: dict[str, Any], use: Use) -> str:
    """Why a field cannot be used like this; empty if it can."""
    try:
        found = field_mapping(properties, use.field)
    except KeyError:
        return f"{use.where}: there is no field {use.field}"
    if found["type"] not in SUPPORTS[use.operation]:
        return f"{use.where}: {use.field} is {found['type']}, which {use.operation} cannot use"
    if use.operation in _NEEDS_DOC_VALUES and found.get("doc_values") is False:
        return f"{use.where}: {use.field} has no doc_values, which {use.operation} needs"
    return ""
