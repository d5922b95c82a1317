"""Alerts and the Grafana dashboard ask for metrics, labels and services that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

import eventsvc.indexer.leader  # noqa: F401  (it makes its own metrics, and imports the others)

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARD = json.loads((CONFIG / "grafana" / "dashboards" / "eventsvc.json").read_text())
ALERTS = (CONFIG / "prometheus" / "alerts.yml").read_text()


def _expressions() -> list[str]:
    targets = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [target["expr"] for target in targets] + [ALERTS]


def _known() -> dict[str, set[str]]:
    """Metrics by the name that Prometheus sees, with their labels; no other library's."""
    known = {}
    collector: Any  # _labelnames is no part of the interface of a collector
    for collector, names in REGISTRY._collector_to_names.items():
        for name in names:
            if name.startswith("eventsvc_"):
                known[name] = {*collector._labelnames, "job", "le", "instance"}
    return known


def test_metrics_exist() -> None:
    """No alert can be silent because of a misspelt name."""
    asked = {name for text in _expressions() for name in re.findall(r"\beventsvc_\w+", text)}
    assert asked
    assert asked <= set(_known())


@pytest.mark.parametrize("text", _expressions())
def test_labels_exist(text: str) -> None:
    """Labels in selectors and groupings are those of the metrics."""
    known = set().union(*_known().values())
    selectors = re.findall(r"[{,]\s*(\w+)\s*=~?\"", text)
    groupings = [name for group in re.findall(r"by \(([\w, ]+)\)", text) for name in group.split(", ")]
    assert {*selectors, *groupings} <= known


def test_every_metric_is_shown() -> None:
    """What is measured can be seen: each counter and gauge has a place on the dashboard."""
    shown = " ".join(_expressions())
    metrics = {family.name for family in REGISTRY.collect() if family.name.startswith("eventsvc_")}
    assert [name for name in metrics if name not in shown] == []


def test_panels_do_not_overlap() -> None:
    """Twenty-four columns, each cell used once."""
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_scraped_services_are_those_of_the_compose_file() -> None:
    """Names and ports of the scrape configuration are those that listen."""
    compose = (CONFIG.parent / "docker-compose.yml").read_text()
    for name, port in re.findall(
        r"names: \[(\w+)\], type: A, port: (\d+)", (CONFIG / "prometheus" / "prometheus.yml").read_text()
    ):
        assert f"\n  {name}:\n" in compose
        assert port == {"api": "8000", "indexer": "8001"}[name]
    assert "EVENTSVC_INDEX_METRICS_PORT: 8001" in compose
