"""The section `processes` of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from exporter.collectors.base import CollectorOptions
from exporter.collectors.filters import check_expressions
from exporter.safe.documents import shown

_WAYS: Final = ("command", "pid_file", "unit")
_UNIT: Final = re.compile(r"[^/\s]+\.(service|scope|slice)")
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of processes and the one way by which they are found."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
    """The label `group`."""
    command: _Text | None = None
    """A regular expression, searched in the command line: its arguments with a blank between them."""
    pid_file: _Text | None = None
    """The file that holds the number of a process: this one and all that descend from it."""
    unit: _Text | None = None
    """A unit of systemd, `celery.service`; `celery@.service` are all instances of the template, a slice all below."""

    def __post_init__(self) -> None:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if not given:
            raise ValueError(f"{_WAYS[0]}: found neither it nor {' nor '.join(_WAYS[1:])}, wanted one of the three")
        if len(given) > 1:
            raise ValueError(f"{given[1]}: found it beside {given[0]}, wanted one of the two")
        if self.command is not None:
            check_expressions(self, "command")
        if self.unit is not None and not _UNIT.fullmatch(self.unit):
            raise ValueError(f"unit: found {shown(self.unit)}, wanted the name of a .service, .scope or .slice")
        if self.pid_file is not None and "\0" in self.pid_file:
            raise ValueError(f"pid_file: found {shown(self.pid_file)}, wanted the path of a file")


class ProcessesOptions(CollectorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A process may be in several groups."""

    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"groups[{index}].name: found {shown(name)} a second time, wanted a name of its own")
