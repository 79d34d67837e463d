"""Who may import what: arrows go one way, and nothing that runs what it reads is near."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT

PACKAGE = ROOT / "exporter"

LAYERS: dict[str, set[str]] = {
    "__init__": set(),
    "model": set(),
    "catalogue": set(),
    "exposition": set(),
    "healthcheck": set(),
    "logs": set(),
    "safe": set(),
    "threads": set(),
    "brokers": {"safe", "threads", "model"},
    "systems": {"brokers", "safe", "threads", "model"},
    "collectors": {"brokers", "safe", "catalogue", "model"},
    "acl": {"config", "systems", "collectors", "brokers", "safe", "model"},
    "gauges": {"safe", "model", "catalogue"},
    "ledger": {"safe", "model", "catalogue"},
    "feeds": {"ledger", "brokers", "safe", "model", "catalogue"},
    "sources": {"brokers", "safe", "catalogue"},
    "config": {"systems", "collectors", "brokers", "safe", "catalogue"},
    "watched": {
        "sources", "gauges", "ledger", "feeds", "config", "systems", "collectors", "brokers", "safe", "model",
    },
    "engine": {
        "__init__", "watched", "sources", "threads", "config", "systems", "collectors", "brokers", "safe", "catalogue",
    },
    "web": {"__init__", "engine", "watched", "exposition", "config", "safe"},
    "service": {"__init__", "web", "engine", "config", "safe"},
    "demo": {"__init__"},
    "cli": {"__init__", "service", "web", "engine", "config", "acl", "logs", "safe", "demo"},
}  # fmt: skip
"""Each part of `exporter/` and the other parts that it may import."""

ONLY_THE_DEMO_APPS = {
    "pickle", "cPickle", "_pickle", "pickletools", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib",
    "arq", "celery", "kombu",
}  # fmt: skip
"""What loads pickles, and the libraries that do: kombu's event receiver among them."""


def part_of(module: str) -> str:
    """`exporter.web.app` is of `web`, `exporter.__version__` of `__init__`."""
    part = [*module.split("."), ""][1]
    return part if part in LAYERS else "__init__"


def imported(source: str, module: str) -> Iterator[str]:
    """Every module that a source file imports, wherever in it, also by name at run time; relative ones resolved.

    `from exporter import engine` imports a module or a name: both `exporter` and `exporter.engine` are given.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(filter(None, [package, node.module]))
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in {"import_module", "__import__"}:
                yield str(node.args[0].value)


def forbidden(source: str, module: str) -> set[str]:
    """What a module of ours imports and may not."""
    own = part_of(module)
    bad = set()
    for name in imported(source, module):
        if name.partition(".")[0] in ONLY_THE_DEMO_APPS and not module.startswith("exporter.demo.apps"):
            bad.add(name)
        if name.startswith("exporter.") and part_of(name) not in {own, *LAYERS[own]}:
            bad.add(name)
    return bad


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_it_may(module: str) -> None:
    assert forbidden(modules()[module].read_text(), module) == set()


def test_every_part_has_its_row() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules().values()}

    assert parts == LAYERS.keys()


def test_the_layers_have_no_circle() -> None:
    below = {part: set(parts) for part, parts in LAYERS.items()}
    while leaves := {part for part, parts in below.items() if not parts}:
        below = {part: parts - leaves for part, parts in below.items() if part not in leaves}
    assert not below


def test_the_vocabulary_imports_nothing_of_ours() -> None:
    assert LAYERS["model"] == LAYERS["safe"] == LAYERS["catalogue"] == set()


# -- the checker can fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("exporter.systems.arq", "import pickle", {"pickle"}),
        ("exporter.systems.arq", "from pickle import loads", {"pickle", "pickle.loads"}),
        ("exporter.systems.arq", "def f():\n    import arq.jobs as j", {"arq.jobs"}),
        ("exporter.systems.celery", "from celery.events import E", {"celery.events", "celery.events.E"}),
        ("exporter.systems.celery", "import importlib\nimportlib.import_module('kombu')", {"kombu"}),
        ("exporter.systems.celery", "__import__('marshal')", {"marshal"}),
        ("exporter.demo.stage", "import arq", {"arq"}),
        ("exporter.demo.apps.arq_app", "import arq", set()),
        ("exporter.model", "from exporter.safe import text", {"exporter.safe", "exporter.safe.text"}),
        ("exporter.systems.base", "from exporter import engine", {"exporter.engine"}),
        ("exporter.systems.base", "from exporter.web import app", {"exporter.web", "exporter.web.app"}),
        ("exporter.systems.base", "from ..engine import Engine", {"exporter.engine", "exporter.engine.Engine"}),
        ("exporter.systems.base", "from .keys import key_text", set()),
        ("exporter.brokers.pulls", "if TYPE_CHECKING:\n    import exporter.config", {"exporter.config"}),
        ("exporter.web.app", "from exporter import __version__", set()),
        ("exporter.web.app", "from exporter.engine import Engine\nimport json", set()),
        ("exporter.collectors.host", "import pickled, arquebus", set()),
    ],
)  # fmt: skip
def test_the_checker_finds(module: str, source: str, found: set[str]) -> None:
    assert forbidden(source, module) == found


def test_nothing_evaluates_text() -> None:
    for path in modules().values():
        names = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if is_plain_call(node)}  # type: ignore[attr-defined]
        assert not names & {"eval", "exec", "compile"}, path


def is_plain_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
