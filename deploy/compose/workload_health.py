"""Whether the sample's workload enqueues: exit code 0 if it did within the last seconds, else 1 and one line on stderr.

Every two seconds it enqueues a reminder that is to run 8 s later. Jobs that are due in more than 3 s are therefore
there as long as it lives, whatever the workers do; nobody else of the sample puts one off for so long.
"""

import os
import sys
import time

import redis

from exporter.demo.queues import ARQ_QUEUE, REDIS_URL_VARIABLE

AHEAD = 3.0
"""Seconds: more than workers put a retry off for, less than the workload a reminder."""


def main() -> None:
    try:
        with redis.Redis.from_url(os.environ[REDIS_URL_VARIABLE], socket_timeout=5, socket_connect_timeout=5) as client:
            # ARQ's scores are milliseconds.
            due_later = client.zcount(ARQ_QUEUE, (time.time() + AHEAD) * 1000, "+inf")
    except redis.RedisError as error:
        sys.exit(f"workload_health: found {error}, wanted an answer of Redis")
    if not due_later:
        sys.exit(f"workload_health: found no job of {ARQ_QUEUE} that is due in more than {AHEAD:g} s, wanted one")


if __name__ == "__main__":
    main()
