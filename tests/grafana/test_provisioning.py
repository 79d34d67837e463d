"""What Grafana is set up with: names that agree with each other, and keys that Grafana knows."""

from __future__ import annotations

import configparser
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from tests import dashboards
from tests.servers import ROOT

GRAFANA: Final = ROOT / "grafana"
PROVIDER_KEYS: Final = {
    "name",
    "orgId",
    "folder",
    "folderUid",
    "type",
    "allowUiUpdates",
    "disableDeletion",
    "updateIntervalSeconds",
    "options",
}
"""grafana.com/docs: provisioning, dashboards. Grafana drops what it does not know without a word."""
DATASOURCE_KEYS: Final = {"name", "uid", "orgId", "type", "access", "url", "isDefault", "editable", "jsonData"}
PROMETHEUS_KEYS: Final = {"httpMethod", "timeInterval", "prometheusType", "prometheusVersion", "manageAlerts"}

PROMETHEUS_PORT: Final = 9090
"""Where it listens unless told otherwise; `prometheus/` tells it nothing else."""


def only(folder: str, key: str) -> dict[str, Any]:
    """The one thing that the one file of a folder sets up."""
    (path,) = (GRAFANA / "provisioning" / folder).iterdir()
    assert path.suffix == ".yml"
    read = yaml.safe_load(path.read_text())
    assert read.keys() == {"apiVersion", key}
    assert read["apiVersion"] == 1
    (found,) = read[key]
    return dict(found)


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string((GRAFANA / "grafana.ini").read_text())
    return parser


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_dashboards_come_from_files_and_follow_them() -> None:
    provider = only("dashboards", "providers")
    assert provider.keys() <= PROVIDER_KEYS
    assert provider["type"] == "file"
    assert provider["options"].keys() == {"path"}
    assert PurePosixPath(provider["options"]["path"]).is_absolute()
    assert provider["folder"] == "Task queues"
    assert not provider["allowUiUpdates"]
    assert not provider["disableDeletion"]
    assert 0 < provider["updateIntervalSeconds"] <= 30


def test_the_datasource_is_one_that_dashboards_can_select() -> None:
    datasource = only("datasources", "datasources")
    assert datasource.keys() <= DATASOURCE_KEYS
    assert datasource["jsonData"].keys() <= PROMETHEUS_KEYS
    kinds = {dashboard.variables["datasource"]["query"] for dashboard in dashboards.dashboards()}
    assert kinds == {datasource["type"]}
    assert datasource["isDefault"]


def test_grafana_itself_asks_prometheus_where_it_is() -> None:
    """By POST: queries are longer than some proxies let addresses be."""
    datasource = only("datasources", "datasources")
    url = urlsplit(datasource["url"])
    assert datasource["access"] == "proxy"
    assert datasource["jsonData"]["httpMethod"] == "POST"
    assert (url.scheme, url.port) == ("http", PROMETHEUS_PORT)


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    prometheus = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())
    interval = only("datasources", "datasources")["jsonData"]["timeInterval"]
    assert interval == prometheus["global"]["scrape_interval"]
    assert seconds(settings()["dashboards"]["min_refresh_interval"]) <= 30  # of every dashboard


def test_grafana_opens_with_a_dashboard_that_is_provided() -> None:
    home = PurePosixPath(settings()["dashboards"]["default_home_dashboard_path"])
    assert str(home.parent) == only("dashboards", "providers")["options"]["path"]
    assert (Path(dashboards.DIRECTORY) / home.name).exists()
    assert home.stem == "tq-overview"
