"""What lies where in a Redis that ARQ uses (arq/constants.py). Only a queue's name can be chosen."""

from __future__ import annotations

from typing import Final

DEFAULT_QUEUE: Final = b"arq:queue"
"""A queue, as any other a sorted set: member = job id, score = due time in epoch milliseconds."""
JOB: Final = b"arq:job:"
"""A job's definition, from when it is put into a queue to its end."""
IN_PROGRESS: Final = b"arq:in-progress:"
"""Its mark of progress, while it runs: of a cron job for a minute longer, of a lost worker's job until it lapses."""
TRIES: Final = b"arq:retry:"
"""How often it was started, from its first start to its end; gone a day after the last one."""
RESULT: Final = b"arq:result:"
"""How it ended, if that is kept."""
ABORTS: Final = b"arq:abort"
"""A sorted set of the jobs that are to be aborted, and no queue."""
CRON: Final = b"cron:"
"""What the id of a cron job begins with, unless its `name` or `job_id` was given, or `unique=False` (arq/cron.py)."""

# What the distribution taskqueue-hooks adds (hooks/README.md): its records, version 1.
HOOKED_QUEUES: Final = b"taskqueue:arq:queues"
"""A sorted set: queue, and when a worker of it last wrote. Lives a day beyond that."""
HOOKED_WORKERS: Final = b"taskqueue:arq:workers"
"""A sorted set: id of a worker, and when it last wrote. A worker that stops takes its own away."""
HOOKED_WORKER: Final = b"taskqueue:arq:worker:"
"""A hash by the worker's id, as it was at its last beat. Lives for three beats."""
HOOKED_EVENTS: Final = b"taskqueue:arq:events:"
"""A stream by queue, of attempts that ended. Capped; lives a day beyond the last."""
