"""Every metric family in one table: name, type, HELP, labels. The contract that dashboards, rules and docs hold to.

One module for each kind of thing that is measured; run as a module the package prints the metrics reference
(`docs/metrics.md`).
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue import cgroup, feeds, host, itself, jobs, processes, queues, redis
from exporter.catalogue.cgroup import *  # noqa: F403  the families of each module are the package's
from exporter.catalogue.family import *  # noqa: F403
from exporter.catalogue.family import Family
from exporter.catalogue.feeds import *  # noqa: F403
from exporter.catalogue.host import *  # noqa: F403
from exporter.catalogue.itself import *  # noqa: F403
from exporter.catalogue.jobs import *  # noqa: F403
from exporter.catalogue.processes import *  # noqa: F403
from exporter.catalogue.queues import *  # noqa: F403
from exporter.catalogue.redis import *  # noqa: F403

MODULES: Final = (queues, jobs, feeds, itself, redis, host, cgroup, processes)
"""In the order of `/metrics`."""
FAMILIES: Final[dict[str, Family]] = {
    family.name: family for module in MODULES for family in vars(module).values() if isinstance(family, Family)
}
"""Every family by name; their order is that of `/metrics`."""
