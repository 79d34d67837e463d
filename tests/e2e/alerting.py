"""From exporters to a webhook: two replicas, Prometheus with the project's rules, Alertmanager with its configuration.

Time runs faster in the rules (`tests/rules/accelerated.py`) and in Alertmanager; nothing else is changed in either.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from arq import create_pool
from arq.connections import RedisSettings

from scripts.rulebook import PROMETHEUS
from tests.alertmanager import Alertmanager, Webhook
from tests.e2e.prometheus import PrometheusServer
from tests.rules.accelerated import accelerated
from tests.servers import (
    EXPORTER_PYTHON,
    LOOPBACK,
    ROOT,
    Process,
    RedisServer,
    exporter_environment,
    free_port,
    wait_until,
)

JOB = "taskqueue"
ARQ_QUEUE = "arq:queue"
FACTOR = 30.0
"""How much faster time runs in the rules: their half minute is a second."""
BIRTH_HOLD = "2"
"""Seconds for which new series show 0: two scrapes, as with the default."""
SCRAPE_INTERVAL = 15.0
SCRAPE_TIMEOUT = 10.0
LEAST_SECONDS = 1.0
"""A shorter timeout leaves an exporter no time, and there is none longer than the interval."""
LOOKBACK = 300.0
"""Seconds for which Prometheus takes a sample for the present one, unless told otherwise."""
DEADLINE = 60.0
_INTERVALS = {"group_wait": "1s", "group_interval": "1s", "repeat_interval": "2s"}
"""What Alertmanager waits for here: enough for what inhibits to come in before what it inhibits is sent, and short
enough for a test to see what is sent again and again, and what is no longer."""
_CONFIG = """
global: {{scrape_interval: {scrape}ms, scrape_timeout: {timeout}ms}}
rule_files: ["{rules}/*.yml"]
alerting: {{alertmanagers: [{{static_configs: [{{targets: {alertmanagers}}}]}}]}}
scrape_configs: {scraped}
"""

Labels = Mapping[str, str]


# -- the stack --------------------------------------------------------------------------------------------------


class Replica:
    """One of several exporters of one configuration, which comes back on the port it had."""

    START_DEADLINE = 20.0

    def __init__(self, directory: Path, config: Path) -> None:
        self.instance = f"{LOOPBACK}:{free_port()}"
        self._log, self._config = directory / f"exporter-{self.instance}.log", config
        self._process: Process
        self.start()

    def start(self) -> None:
        """Starts it, again if it ran before."""
        command = [EXPORTER_PYTHON, "-m", "exporter.cli", "serve", "--web.listen-address", self.instance]
        command += ["--config.file", str(self._config), "--birth-hold", BIRTH_HOLD]
        self._process = Process(command, self._log, cwd=ROOT, env=exporter_environment())

    def kill(self) -> None:
        """Ends it at once, as the kernel does when memory is short."""
        with suppress(ProcessLookupError):
            self._process.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.stop()


def run_prometheus(
    directory: Path,
    targets: Iterable[str],
    factor: float,
    numbers: Mapping[str, float] | None = None,
    alertmanagers: Iterable[str] = (),
    more: Iterable[Mapping[str, Any]] = (),
) -> PrometheusServer:
    """A Prometheus with the project's rules, `factor` times as fast; `numbers` are targets that rules compare with,
    `more` further `scrape_configs`."""
    scraped = {"job_name": JOB, "static_configs": [{"targets": list(targets)}]}
    rules = directory / "rules"
    rules.mkdir()
    accelerated(rules, factor, numbers)
    config = _CONFIG.format(
        scrape=round(max(SCRAPE_INTERVAL / factor, LEAST_SECONDS) * 1000),
        timeout=round(max(SCRAPE_TIMEOUT / factor, LEAST_SECONDS) * 1000),
        rules=rules,
        scraped=json.dumps([scraped, *more]),  # JSON is YAML
        alertmanagers=list(alertmanagers),
    )
    return PrometheusServer(directory, config, f"--query.lookback-delta={round(LOOKBACK / factor * 1000)}ms")


def hastened(config: str, webhook: str) -> str:
    """An Alertmanager's configuration with short intervals, and all that it sends sent to a webhook.

    Routes and inhibition stay as they are, and so does whether a receiver is told of what is resolved.
    """
    parsed: dict[str, Any] = yaml.safe_load(config)
    _hasten(parsed["route"])
    parsed["receivers"] = [_redirected(receiver, webhook) for receiver in parsed["receivers"]]
    parsed["templates"] = [str(PROMETHEUS / template) for template in parsed.get("templates", ())]
    return yaml.safe_dump(parsed, sort_keys=False)


def _hasten(route: dict[str, Any]) -> None:
    for name, short in _INTERVALS.items():
        if name in route and route[name] != "0s":
            route[name] = short
    for below in route.get("routes", ()):
        _hasten(below)


def _redirected(receiver: Mapping[str, Any], webhook: str) -> dict[str, Any]:
    of_kinds = [entry for kind, entries in receiver.items() if kind.endswith("_configs") for entry in entries]
    resolved = any(entry.get("send_resolved", True) for entry in of_kinds) if of_kinds else True
    return {"name": receiver["name"], "webhook_configs": [{"url": webhook, "send_resolved": resolved}]}


class Stack:
    """Two exporters of some brokers, Prometheus, Alertmanager and the webhook that it tells; one thing to stop."""

    def __init__(self, directory: Path, brokers: Mapping[str, RedisServer], numbers: Mapping[str, float]) -> None:
        self._stack = ExitStack()
        config = directory / "exporter.yml"
        config.write_text(yaml.safe_dump({"brokers": [_broker(*broker) for broker in brokers.items()]}))
        with self._stack:
            self.replicas = [self._kept(Replica(directory, config)) for _ in range(2)]
            self.webhook = self._kept(Webhook())
            text = hastened((PROMETHEUS / "alertmanager.yml").read_text(), self.webhook.url)
            self.alertmanager = self._kept(Alertmanager(directory, text))
            instances = [replica.instance for replica in self.replicas]
            self.prometheus = self._kept(
                run_prometheus(directory, instances, FACTOR, numbers, [self.alertmanager.address])
            )
            self.until(f"sum(last_over_time(up[5s])) == {len(self.replicas)} and min(taskqueue_feed_connected) == 1")
            self._stack = self._stack.pop_all()

    def stop(self) -> None:
        self._stack.close()

    def _kept(self, part: Any) -> Any:
        self._stack.callback(part.stop)
        return part

    # -- what is asked of it

    def until(self, query: str, deadline: float = DEADLINE) -> None:
        """Waits for Prometheus to answer a query with anything."""
        wait_until(lambda: self.prometheus.vector(query), deadline, 0.2)

    def fired(self) -> list[dict[str, str]]:
        """The labels of every alert that fired at any time."""
        return [labels for labels, _ in self.prometheus.vector('last_over_time(ALERTS{alertstate="firing"}[1h])')]

    def sent(self, status: str, labels: Labels) -> list[dict[str, Any]]:
        """What the webhook was told of the alerts with these labels, each with its `receiver`."""
        return [
            alert | {"receiver": notification["receiver"]}
            for notification in list(self.webhook.received)
            for alert in notification["alerts"]
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]

    def statuses(self, labels: Labels) -> list[str]:
        """The statuses, one per change, that the webhook was told of the alerts with these labels."""
        told = [
            alert["status"]
            for notification in list(self.webhook.received)
            for alert in notification["alerts"]
            if labels.items() <= alert["labels"].items()
        ]
        return [status for number, status in enumerate(told) if number == 0 or told[number - 1] != status]

    def inhibited(self, labels: Labels) -> set[str]:
        """The names of the alerts that inhibit, now, the one with these labels."""
        standing = self.alertmanager.alerts()
        names = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in standing}
        return {
            names[fingerprint]
            for alert in standing
            if labels.items() <= alert["labels"].items()
            for fingerprint in alert["status"]["inhibitedBy"]
            if fingerprint in names
        }


def _broker(name: str, server: RedisServer) -> dict[str, Any]:
    return {"name": name, "url": server.url(), "celery": {"inspect_interval": 1}}


# -- what is expected of it -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that must be told of, to a receiver, and what its annotations must say."""

    alertname: str
    receiver: str
    labels: Labels
    says: Sequence[str] = ()
    """Words of its summary or its description."""
    inhibited_by: str | None = None
    """The alert for whose sake it must not be told of."""

    @property
    def all_labels(self) -> dict[str, str]:
        return {"alertname": self.alertname, "job": JOB, **self.labels}


def assert_told(stack: Stack, expected: Expected) -> None:
    """It came, to the right receiver alone, with the annotations rendered."""
    told = stack.sent("firing", expected.all_labels)
    assert told, f"not told of {expected}; fired: {stack.fired()}"
    assert {alert["receiver"] for alert in told} == {expected.receiver}
    for alert in told:
        assert_rendered(expected, alert["labels"], alert["annotations"])


def assert_rendered(expected: Expected, labels: Labels, annotations: Labels) -> None:
    """The four annotations are there, with the alert's labels in them, and nothing is left to be filled in."""
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    text = " ".join(annotations.values())
    for left in ("{{", "}}", "<no value>", "<error", "%!", "NaN"):
        assert left not in text, text
    assert annotations["runbook_url"].endswith(f"/docs/runbooks/{expected.alertname}.md")
    assert annotations["dashboard_url"].startswith("http://localhost:3000/d/tq-")
    assert f"var-job={JOB}" in annotations["dashboard_url"]
    for name in ("broker", "queue", "task"):
        if name in labels:
            assert labels[name] in annotations["summary"], annotations["summary"]
    for words in expected.says:
        assert words in text, text


# -- what happens -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that goes wrong, and is put right."""

    expected: Sequence[Expected]
    cause: Callable[[], object]
    heal: Callable[[], object]

    @property
    def told(self) -> list[Expected]:
        """What somebody must be told of."""
        return [one for one in self.expected if one.inhibited_by is None]

    @property
    def untold(self) -> list[Expected]:
        """What must fire, and be kept quiet."""
        return [one for one in self.expected if one.inhibited_by is not None]

    def has_fired(self, stack: Stack) -> bool:
        """Whether all is told that must be, and the rest kept quiet."""
        told = all(stack.sent("firing", one.all_labels) for one in self.told)
        return told and all(one.inhibited_by in stack.inhibited(one.all_labels) for one in self.untold)

    def is_over(self, stack: Stack) -> bool:
        """Whether it is told that all is over."""
        return all(stack.sent("resolved", one.all_labels) for one in self.told)


def unexpected(stack: Stack, expected: Iterable[Expected]) -> list[dict[str, str]]:
    """What fired, but for the Watchdog, that is not expected."""
    known = list(expected)
    fired = [labels for labels in stack.fired() if labels["alertname"] != "Watchdog"]
    return [labels for labels in fired if not any(one.all_labels.items() <= labels.items() for one in known)]


def enqueue_arq(url: str, function: str, count: int, *args: object, queue: str = ARQ_QUEUE) -> None:
    """Enqueues jobs as an application does."""

    async def enqueue() -> None:
        pool = await create_pool(RedisSettings.from_dsn(url))
        try:
            for _ in range(count):
                await pool.enqueue_job(function, *args, _queue_name=queue)
        finally:
            await pool.aclose()

    asyncio.run(enqueue())
