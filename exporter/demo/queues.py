"""The names of the demo's queues, and where its processes find Redis."""

REDIS_URL_VARIABLE = "TASKQUEUE_DEMO_REDIS_URL"
"""Environment variable with the URL of the demo's Redis, for the sample apps and the workload."""

ARQ_QUEUE = "arq:queue"
ARQ_REPORTS = "arq:reports"
ARQ_UNSTAFFED = "arq:archive"
"""No worker consumes it."""

CELERY_DEFAULT = "default"
CELERY_EMAILS = "emails"
CELERY_REPORTS = "reports"
CELERY_UNSTAFFED = "archive"
"""No worker consumes it."""
