"""The alerts that the demo deserves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.e2e.watched import REAL_SECONDS


@dataclass(frozen=True)
class Deserved:
    """An alert, and why the workload of `exporter/demo/workload.py` deserves it.

    `labels` are those that it must have, `always` says that it fires in every run that is long enough.
    """

    alertname: str
    why: str
    labels: Mapping[str, str]
    always: bool = True

    def is_one(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is deserved for this."""
        return labels["alertname"] == self.alertname and self.labels.items() <= labels.items()


ARQ, CELERY = {"system": "arq"}, {"system": "celery"}
ARCHIVE = {"arq": ARQ | {"queue": "arq:archive"}, "celery": CELERY | {"queue": "archive"}}
DEFAULT = {"arq": ARQ | {"queue": "arq:queue"}, "celery": CELERY | {"queue": "default"}}
REPORTS = CELERY | {"queue": "reports"}
UNSTAFFED = "no worker consumes the queue"
HALF = "every second job fails: a little more or less than the target of a half"

DESERVED = (
    Deserved("QueueNoWorkers", f"{UNSTAFFED}; Celery's workers tell which they consume", ARCHIVE["celery"]),
    *(Deserved("QueueStalled", UNSTAFFED, queue) for queue in ARCHIVE.values()),
    *(Deserved("QueueWaitTooLong", UNSTAFFED, queue, always=bool(REAL_SECONDS)) for queue in ARCHIVE.values()),
    *(Deserved("TaskFailing", "all its jobs fail", queue | {"task": "sync_contacts"}) for queue in DEFAULT.values()),
    *(
        Deserved("TaskFailing", "no worker knows it", queue | {"task": "renamed_task"}, False)
        for queue in DEFAULT.values()
    ),
    *(
        Deserved("TaskFailing", HALF, queue | {"task": task}, always=False)
        for queue in DEFAULT.values()
        for task in ("charge_card", "call_partner")
    ),
    *(
        Deserved("RetryStorm", "more than a third of its attempts are retried", queue | {"task": task}, always=False)
        for queue in DEFAULT.values()
        for task in ("fetch_feed", "sync_contacts")
    ),
    *(
        Deserved("FunctionNotFound", "no worker knows it", queue | {"task": "renamed_task"})
        for queue in DEFAULT.values()
    ),
    *(
        Deserved(name, "about a sixth of its jobs fail or expire, and a hundredth may", queue, always=False)
        for queue in (*DEFAULT.values(), REPORTS)
        for name in ("JobFailureBudgetFastBurn", "JobFailureBudgetSlowBurn")
    ),
    Deserved("JobsExpired", "the last of a burst expire", REPORTS | {"task": "build_report"}),
)
HOST = ("HostDiskFilling", "HostMemoryPressure")
"""The demo shows the machine that it runs on, which may deserve them: that is no matter of the demo's."""
