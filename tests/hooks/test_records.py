"""The records as other programs read them: keys, fields, bytes and bounds."""

from __future__ import annotations

import json

from taskqueue_hooks import _records as records

BROKEN = "a\udcffz"
END = records.End(7, "job-1", "send", "failed", "OwnError", 2, 1.5, 2.25, 3.1234567, True)
WORKER = records.Worker("w:1", "w", "arq:queue", 1.0, 2.0, 0.5, 10, 1, 3, 7, 2)


def test_an_end() -> None:
    add, expire = records.end_commands("w:1", "arq:queue", [END], 4.5, 500)
    assert add[:6] == ("XADD", b"taskqueue:arq:events:arq:queue", "MAXLEN", "~", 500, "*")
    assert add[6:] == (
        *("v", 1, "worker", b"w:1", "n", 7, "job", b"job-1", "task", b"send"),
        *("outcome", "failed", "exception", b"OwnError", "try", 2),
        *("due", "1.500000", "start", "2.250000", "end", "3.123457", "written", "4.500000", "kept", 1),
    )
    assert expire == ("EXPIRE", b"taskqueue:arq:events:arq:queue", 86400)


def test_a_worker() -> None:
    put, expire, *indexes = records.worker_commands(WORKER, [])
    fields = dict(zip(put[2::2], put[3::2], strict=True))
    versions = {name: fields.pop(name) for name in ("arq", "python", "hooks")}
    assert put[:2] == ("HSET", b"taskqueue:arq:worker:w:1")
    assert list(fields.items()) == [
        *(("v", 1), ("name", b"w"), ("queue", b"arq:queue"), ("started", "1.000000"), ("at", "2.000000")),
        *(("beat", "0.5"), ("slots", 10), ("busy", 1), ("functions", 3), ("records", 7), ("dropped", 2)),
        ("running", "[]"),
    ]
    assert all(versions.values())
    assert expire == ("PEXPIRE", b"taskqueue:arq:worker:w:1", 1500)
    assert indexes == [
        ("ZADD", "taskqueue:arq:queues", "2.000000", b"arq:queue"),
        ("EXPIRE", "taskqueue:arq:queues", 86400),
        ("ZADD", "taskqueue:arq:workers", "2.000000", b"w:1"),
        ("EXPIRE", "taskqueue:arq:workers", 86400),
    ]


def test_what_runs() -> None:
    plain = records.Running("job-1", "send", 1, 1.25, None)
    telling = plain._replace(progress=records.Progress(3.0, None, "half", 2.5))
    common = {"id": "job-1", "f": "send", "try": 1, "at": 1.25}
    assert json.loads(records.running_text([plain, telling])) == [
        common,
        {**common, "done": 3.0, "total": None, "message": "half", "reported": 2.5},
    ]


def test_texts_are_bounded_and_always_utf8() -> None:
    long = END._replace(job=BROKEN * 999, task=BROKEN * 999, exception=BROKEN * 999)
    fields = records.end_fields(b"w", long, 4.5)
    texts = {name: value for name, value in zip(fields[::2], fields[1::2], strict=True) if isinstance(value, bytes)}
    assert {str(name): len(value) for name, value in texts.items()} == {
        **{"worker": 1, "job": 512},
        **{"task": 256, "exception": 128},
    }
    running = records.Running(BROKEN * 999, BROKEN * 999, 1, 1.0, records.Progress(1.0, 2.0, BROKEN * 999, 1.0))
    (told,) = json.loads(records.running_text([running]))
    assert (len(told["id"]), len(told["f"]), len(told["message"])) == (512, 256, 200)
    assert told["id"].startswith("a?z")
    assert records.events_key(BROKEN) == b"taskqueue:arq:events:a?z"
