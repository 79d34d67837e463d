"""redis_exporter's names from ours: all that both have, under their names, units and labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from exporter.catalogue import FAMILIES
from scripts.rulebook import PROMETHEUS, RULES, Rule, metrics_of, rules_of
from tests.e2e.prometheus import Prometheus
from tests.e2e.test_redis_exporter import Said, get, their_exporter
from tests.promtool import promtool
from tests.redis_exporter import LEFT_OUT, OURS, RENAMED, THEIRS, left_out
from tests.servers import LOOPBACK, RedisServer, StartExporter, wait_until

FILE: Final = RULES / "compat-redis-exporter.yml"
RECORDED: Final[dict[str, Rule]] = {rule.name: rule for rule in rules_of(FILE)}
BESIDE: Final = {
    "redis_up": "taskqueue_broker_up",
    "redis_config_maxmemory": "taskqueue_redis_memory_max_bytes",
    "redis_aof_pending_rewrite": "taskqueue_redis_aof_rewrite_scheduled",
    "redis_max_clients": "taskqueue_redis_max_clients",
}
"""For families of theirs that we leave out, as another of ours says the same; and a name of their later versions."""
MAPPED: Final = (
    {THEIRS + name.removeprefix(OURS): name for name in FAMILIES if name.startswith(OURS)}
    | {THEIRS + theirs: OURS + ours for theirs, (ours, _) in RENAMED.items()}
    | BESIDE
)
"""By their name ours; those that only we call so are taken out below."""
ONLY_OURS: Final = {THEIRS + ours for ours, _ in RENAMED.values()} - BESIDE.keys()


def test_all_that_both_have_is_recorded_from_ours() -> None:
    assert {name: {*metrics_of(rule.expr)} for name, rule in RECORDED.items()} == {
        theirs: {ours} for theirs, ours in MAPPED.items() if theirs not in ONLY_OURS
    }
    assert {*BESIDE.values()} <= FAMILIES.keys()


def test_nothing_but_names_changes_where_the_unit_is_the_same() -> None:
    changed = {name for name, rule in RECORDED.items() if rule.expr != MAPPED[name]}

    assert changed == {THEIRS + theirs for theirs, (_, factor) in RENAMED.items() if factor != 1}


def test_what_we_leave_out_is_left_out_but_for_what_another_family_says() -> None:
    assert {name for name in RECORDED if left_out(name) in LEFT_OUT} == BESIDE.keys() - {"redis_max_clients"}


def test_prometheus_loads_every_other_file() -> None:
    config = (PROMETHEUS / "prometheus.yml").read_text()

    loaded = yaml.safe_load(config)["rule_files"]
    assert sorted(loaded) == sorted(f"rules/{path.name}" for path in RULES.glob("*.yml") if path != FILE)
    assert loaded[:2] == ["rules/targets.yml", "rules/recording.yml"]
    assert f"# - rules/{FILE.name}" in config


@pytest.mark.needs("promtool")
def test_the_rules_do_what_their_cases_say() -> None:
    promtool("test", "rules", PROMETHEUS / "tests" / "compat.yml")


@pytest.mark.needs("promtool")
def test_the_file_can_be_loaded_as_the_comment_says(tmp_path: Path) -> None:
    config = (PROMETHEUS / "prometheus.yml").read_text()
    uncommented = config.replace(f"# - rules/{FILE.name}", f"- rules/{FILE.name}").replace("- rules/", f"- {RULES}/")
    (tmp_path / "prometheus.yml").write_text(uncommented)

    said = promtool("check", "config", tmp_path / "prometheus.yml")

    assert f"Checking {FILE}\n  SUCCESS: {len(RECORDED)} rules found" in said


@pytest.mark.needs("prometheus", "prometheus-redis-exporter")
def test_a_real_prometheus_has_what_redis_exporter_says(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given a server, both exporters, and a Prometheus that scrapes ours and records the rules each second
    client = redis_server.client()
    client.config_set("maxmemory", "64mb")
    client.get("missing")
    client.bgsave()
    wait_until(lambda: client.info()["rdb_last_bgsave_time_sec"] >= 0)  # type: ignore[index]
    url = redis_server.url()
    exporter = start_exporter(config=f"brokers: [{{name: main, url: '{url}', redis: {{latency_percentiles: true}}}}]")
    faster = re.sub(r"interval: \w+", "interval: 1s", FILE.read_text())
    (tmp_path / FILE.name).write_text(faster)
    prometheus = Prometheus(tmp_path, exporter.port, f"rule_files: [{tmp_path / FILE.name}]")
    try:
        with their_exporter(redis_server, tmp_path) as theirs:
            target = f"{theirs}/scrape?target=redis://{LOOPBACK}:{redis_server.port}"
            # when the rules have been evaluated
            wait_until(lambda: prometheus.value("count(redis_latency_percentiles_usec)"), 30)
            said = Said(get(target), THEIRS)
            # then each family of theirs that has a sample, but those where it says -1 or 0 for none, is there
            told = [name for name in said.types if left_out(name) is None and _tells(said, name)]
            assert [name for name in told if not prometheus.value(f"count({name})")] == []
            assert len(told) > 40
        # and says the same
        place = f'job="taskqueue",instance="{LOOPBACK}:{exporter.port}",broker="main"'
        server = f'{place},server="{LOOPBACK}:{redis_server.port}"'
        assert prometheus.value(f"redis_up{{{place}}}") == 1
        assert prometheus.value(f"redis_config_maxmemory{{{server}}}") == 64 << 20
        assert prometheus.value(f"redis_config_maxclients{{{server}}}") == client.info()["maxclients"]  # type: ignore[index]
        assert prometheus.value(f'count(redis_commands_total{{{server},cmd="get"}})') == 1
        quantiles = 'count(redis_latency_percentiles_usec{{cmd="get",quantile="{}"}} >= 1)'
        assert [prometheus.value(quantiles.format(quantile)) for quantile in ("50", "99", "99.9")] == [1, 1, 1]
    finally:
        prometheus.stop()


def _tells(said: Said, name: str) -> bool:
    return any(value not in (0, -1) for value in said.samples.get(name.removeprefix(THEIRS), {}).values())
