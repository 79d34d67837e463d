"""Hostile results and events beside good ones: nothing runs, all are counted as what they are, the good ones too."""

from __future__ import annotations

import psutil

from tests.e2e.pushing import arq_result, celery_job, feed, finished, publish, until_connected
from tests.e2e.truth import SHOWN_AT_ONCE
from tests.safe.hostile import HOSTILE, MARKER
from tests.servers import RedisServer, StartExporter, wait_until
from tests.systems.celery_frames import channel, fields, frame, raw_frame

ROUNDS = 20


def test_hostile_results_are_counted_and_run_nothing(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    client = redis_server.client()
    exporter = start_exporter(redis_url=redis_server.url(), env=SHOWN_AT_ONCE)
    until_connected(exporter)
    before = psutil.Process(exporter.pid).memory_info().rss

    for turn in range(ROUNDS):
        for name, value in HOSTILE.items():
            client.set(f"arq:result:evil-{turn}-{name}", value)
            client.set(f"arq:result:good-{turn}-{name}", arq_result("x"))

    number = ROUNDS * len(HOSTILE)
    wait_until(lambda: finished(exporter.metrics(), "arq") == number, 30)
    wait_until(lambda: feed(exporter.metrics(), "undecodable_total") == number, 30)
    metrics = exporter.metrics()
    assert finished(metrics, "arq") == number
    assert feed(metrics, "reconnects_total") == 0
    assert psutil.Process(exporter.pid).memory_info().rss - before < 40e6
    assert not MARKER.exists()


BAD_FRAMES = {
    "no JSON": b"\x80\x04N.",
    "no body": b"{}",
    "a pickle": raw_frame(b"\x80\x04N.", **{"content-type": "application/x-python-serialize"}),
    "a compressed body": raw_frame(b"x\x9c", headers={"compression": "application/x-gzip"}),
    "a body that is no base64": frame([]).replace(b'"W10="', b'"W"'),
    "deep nesting": raw_frame(b"[" * 100_000),
    "a number": raw_frame(b"7"),
    "text": raw_frame(b'"task-succeeded"'),
}


def test_bad_events_beside_good_ones(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    client = redis_server.client()
    exporter = start_exporter(redis_url=redis_server.url(), env=SHOWN_AT_ONCE)
    until_connected(exporter)
    odd = [
        {**fields("task-succeeded", "odd"), "uuid": 7},
        {**fields("task-succeeded", "odd"), "type": None},
        {"no": "event"},
        7,
        None,
    ]

    for number in range(50):
        for bad in BAD_FRAMES.values():
            client.publish(channel("task-multi"), bad)
        # one bad event does not take along the good ones of its message
        good = celery_job(f"job-{number}", "work")
        for one in odd:
            client.publish(channel("task-multi"), frame([one, *celery_job(f"{number}-{odd.index(one)}", "work")]))
        publish(client, good)

    wait_until(lambda: finished(exporter.metrics(), "celery") == 50 * (1 + len(odd)), 30)
    metrics = exporter.metrics()
    assert feed(metrics, "undecodable_total", "celery") == 50 * (len(BAD_FRAMES) + len(odd))
    assert feed(metrics, "reconnects_total", "celery") == 0
