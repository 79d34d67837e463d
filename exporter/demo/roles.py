"""The processes of the demo: their commands, and the queues that the workers serve."""

import sys
from pathlib import Path

from exporter.demo.ports import HOST
from exporter.demo.processes import Role
from exporter.demo.queues import (
    ARQ_QUEUE,
    ARQ_REPORTS,
    CELERY_DEFAULT,
    CELERY_EMAILS,
    CELERY_REPORTS,
)
from exporter.demo.redis_server import redis_command

ARQ_APP = "exporter.demo.apps.arq_app"
CELERY_APP = "exporter.demo.apps.celery_app"


def redis_role(executable: str, port: int) -> Role:
    return Role("redis", redis_command(executable, port), f"{HOST}:{port}, {executable}")


def exporter_role(port: int, configuration: Path) -> Role:
    # What happens is shown at once: nobody's increase() is spoiled here.
    flags = ["--config.file", str(configuration), "--web.listen-address", f"{HOST}:{port}", "--birth-hold", "0"]
    command = [sys.executable, "-m", "exporter.cli", "serve", *flags]
    return Role("exporter", command, f"http://{HOST}:{port}/")


def worker_roles() -> list[Role]:
    """Two workers of each system. Of ARQ's one has the hook; of Celery's queues one is served by both."""
    return [
        _arq_worker("arq-1", "GENERAL", ARQ_QUEUE),
        _arq_worker("arq-2", "REPORTS", ARQ_REPORTS),
        _celery_worker("celery-1", CELERY_DEFAULT, CELERY_EMAILS),
        _celery_worker("celery-2", CELERY_DEFAULT, CELERY_REPORTS),
    ]


def workload_role() -> Role:
    command = [sys.executable, "-m", "exporter.demo.workload"]
    return Role("workload", command, "enqueues into these queues, and into two that no worker consumes")


def _arq_worker(name: str, settings: str, queue: str) -> Role:
    command = [sys.executable, "-m", "arq", f"{ARQ_APP}.{settings}"]
    return Role(name, command, f"ARQ worker: {queue}", "arq", (queue,))


def _celery_worker(name: str, *queues: str) -> Role:
    options = ["-n", f"{name}@%h", "-Q", ",".join(queues), "-P", "prefork", "-c", "2", "-E", "-l", "WARNING"]
    command = [sys.executable, "-m", "celery", "-A", CELERY_APP, "worker", *options]
    return Role(name, command, f"Celery worker: {', '.join(queues)}", "celery", queues)
