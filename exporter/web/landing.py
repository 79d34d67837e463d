"""The landing page: version, links, brokers and their state."""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import quote

from exporter import __version__
from exporter.config import Broker
from exporter.engine import Engine
from exporter.watched import Watched
from exporter.web.discovery import PROBE_PATH, SD_PATH

_STATES: Final = {True: "up", False: "down", None: "not asked yet"}

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>taskqueue-exporter</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; line-height: 1.5 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }}
</style>
</head>
<body>
<h1>taskqueue-exporter</h1>
<p>Version {version}. Background job queues, their Redis and this host, for Prometheus.</p>
<ul>
<li><a href="{telemetry_path}">Metrics</a></li>
<li><a href="/-/healthy">Healthy</a>: the process runs</li>
<li><a href="{sd_path}">Service discovery</a>: the brokers that are probed, for Prometheus</li>
<li><a href="/-/ready">Ready</a>: every broker was looked at once</li>
</ul>
<h2>Brokers</h2>
<table>
<thead><tr><th>Broker</th><th>Server</th><th>State</th><th>Collectors</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def landing_page(engine: Engine, telemetry_path: str) -> str:
    """The page as HTML. Brokers go by name and server: no URL, so no secret."""
    rows = "\n".join(_row(watched) for watched in engine.brokers.values())
    return _PAGE.format(version=escape(__version__), telemetry_path=escape(telemetry_path), sd_path=SD_PATH, rows=rows)


def _row(watched: Watched) -> str:
    broker = watched.broker
    collectors = ", ".join(source.collector for source in watched.sources)
    cells = map(escape, (str(broker.address), _STATES[watched.up], collectors))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (_name(broker), *cells)) + "</tr>"


def _name(broker: Broker) -> str:
    """Of a broker that is probed, a link to its metrics: it is not in the others'."""
    name = escape(broker.name)
    return f'<a href="{PROBE_PATH}?broker={quote(broker.name, safe="")}">{name}</a>' if broker.probe else name
