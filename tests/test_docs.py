"""The documents: their examples work, and their tables say what the program says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from _pytest.mark import ParameterSet

from exporter import acl, catalogue
from exporter.cli import cli
from exporter.config import load
from tests.promtool import promtool
from tests.servers import ROOT, RedisServer, StartExporter, series

DOCUMENTS = [ROOT / "README.md", ROOT / "hooks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def yaml_blocks(key: str) -> list[ParameterSet]:
    """Every YAML example whose first key is `key`."""
    blocks: list[ParameterSet] = []
    for document in DOCUMENTS:
        for text in re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL):
            if text.startswith(key):
                blocks.append(pytest.param(text, id=f"{document.name}-{len(blocks)}"))
    assert blocks, f"no example starts with {key}"
    return blocks


@pytest.mark.parametrize("text", yaml_blocks("brokers"))
def test_configuration_examples_load(text: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("redis://redis:6379/0\n")  # a password or a URL, as the example wants it
    file = tmp_path / "config.yml"
    file.write_text(re.sub(r"/run/secrets/[^\s}]+", str(secret), text))

    config = load(file)

    assert {broker.name for broker in config.brokers} == {broker["name"] for broker in yaml.safe_load(text)["brokers"]}


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("text", yaml_blocks("scrape_configs"))
def test_scrape_jobs_are_good_to_prometheus(text: str, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(text)

    promtool("check", "config", file)


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("text", yaml_blocks("groups"))
def test_rules_are_good_to_prometheus(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(text)

    promtool("check", "rules", file)


@pytest.mark.parametrize("command", ["serve", "acl"])
def test_every_flag_is_documented_with_its_variable_and_default(command: str) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    options = [option for option in cli.commands[command].params if isinstance(option, click.Option)]
    for option in options:
        if option.name is None or option.name.startswith("collector_"):
            continue
        row = next((line for line in text.splitlines() if line.startswith(f"| `{option.opts[0]}`")), "")
        assert f"`{option.envvar}`" in row, option.opts[0]
        if isinstance(option.default, str | int):
            assert str(option.default) in row, option.opts[0]


def test_every_metric_that_a_document_names_is_in_the_catalogue() -> None:
    for document in DOCUMENTS:
        # What stands between colons was recorded by a rule: `tests/rules` looks at those.
        names = set(
            re.findall(r"(?<!:)taskqueue_(?!hooks\b|targets\b)[a-z0-9_]+[a-z0-9](?![a-z0-9_*…:])", document.read_text())
        )
        unknown = {name for name in names if _family(name) not in catalogue.FAMILIES}
        assert not unknown, f"{document.name}: {sorted(unknown)}"


def _family(sample: str) -> str:
    """The family of a sample's name: a histogram's have endings of their own."""
    name = re.sub("_(bucket|count|sum)$", "", sample)
    return name if name in catalogue.FAMILIES and catalogue.FAMILIES[name].kind == "histogram" else sample


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_documented_acl_is_what_the_program_prints() -> None:
    document = (ROOT / "docs" / "security.md").read_text()
    (shown,) = re.findall(r"^```\n(# Redis 7.*?)```$", document, re.DOTALL | re.MULTILINE)

    assert shown == acl.text(load(None, "redis://redis:6379/0").brokers, acl.Version.V7_0, acl.Form.SETUSER)


def test_the_documented_acl_is_enough(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    # given a Redis with queues of both systems, and the user of the document
    client = redis_server.client()
    client.zadd("arq:queue", {"a": 1, "b": 2})
    client.set("arq:job:a", "x")
    client.lpush("celery", "task")
    client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
    document = (ROOT / "docs" / "security.md").read_text()
    (command,) = re.findall(r"^ACL SETUSER .*$", document, re.MULTILINE)
    client.execute_command(*command.replace(acl.PASSWORD, ">secret").split())  # type: ignore[no-untyped-call]
    # when
    url = redis_server.url().replace("redis://", "redis://exporter:secret@")
    metrics = start_exporter(redis_url=url).metrics()
    # then everything works, and nothing was denied
    assert {value for (name, _), value in metrics.items() if name == "taskqueue_collector_success"} == {1.0}
    for system, queue in (("arq", "arq:queue"), ("celery", "celery")):
        ready = series("taskqueue_queue_jobs", system=system, broker="default", queue=queue, state="ready")
        assert metrics[ready] > 0
    assert client.acl_log() == []
