"""A demonstration on one machine: Redis, ARQ and Celery workers, a workload and the exporter beside them.

Nothing but ``exporter.demo.apps`` imports arq or celery, and only child processes import that.
"""

import asyncio
import os
import sys

from exporter.demo.errors import ChildFailed, DemoError

__all__ = ["DemoError", "run"]


def run(duration: float | None, port: int) -> int:
    """Runs the demo for ``duration`` seconds (None: until SIGINT or SIGTERM) and returns the exit code.

    The exporter listens on ``127.0.0.1:port``; 0 chooses a free port. The exit code is 0 when the time is over or a
    signal asked for the end, 1 when a process of the demo failed, 2 when something it needs is missing.
    """
    # The sample apps live below this package: their processes need not load what runs the demo.
    from exporter.demo.runner import run_demo

    try:
        asyncio.run(run_demo(duration, port))
    except DemoError as error:
        return _fail(error, 2)
    except ChildFailed as error:
        return _fail(error, 1)
    except BrokenPipeError:
        # Whoever read the table is gone (`… | head`): an end like any other. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(error: Exception, code: int) -> int:
    print(f"taskqueue-exporter: error: {error}", file=sys.stderr)
    return code
