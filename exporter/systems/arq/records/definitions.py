"""Which function a job runs, by its definition in `arq:job:<id>` (arq/jobs.py `serialize_job`)."""

from __future__ import annotations

from typing import Final

from exporter.systems.arq.records.fields import UnreadableResult, name_of
from exporter.systems.arq.records.serializers import Serializer, encoding_of

HEAD_BYTES: Final = 1024
"""Of a definition, which are read: the name stands second in it, before arguments of any length."""


def task_of(head: bytes, serializer: Serializer = Serializer.AUTO) -> str | None:
    """The name of the function, as its worker looks it up; None where it can't be told.

    `head` are the first HEAD_BYTES, or the whole of a definition that is shorter: then None also where it lacks what
    arq itself needs, which cannot run it. (Its result names no function either.)
    """
    try:
        fields = encoding_of(head, serializer).definition(head, cut=len(head) >= HEAD_BYTES)
        return name_of(fields["f"])
    except UnreadableResult:
        return None
