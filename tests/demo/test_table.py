"""The live table: from /metrics text to lines."""

import pytest

from exporter.demo.table import ABSENT, HEADINGS, fetch, parse, render

METRICS = """\
# TYPE taskqueue_queue_jobs gauge
taskqueue_queue_jobs{system="celery",broker="default",queue="emails",state="ready"} 1200
taskqueue_queue_jobs{system="arq",broker="default",queue="arq:queue",state="ready"} 3
taskqueue_queue_jobs{system="arq",broker="default",queue="arq:queue",state="scheduled"} 0
taskqueue_queue_jobs{system="arq",broker="default",queue="arq:queue",state="running"} 2
# TYPE taskqueue_queue_oldest_ready_timestamp_seconds gauge
taskqueue_queue_oldest_ready_timestamp_seconds{system="arq",broker="default",queue="arq:queue"} 995.5
# TYPE taskqueue_jobs_finished_total counter
taskqueue_jobs_finished_total{system="arq",broker="default",queue="arq:queue",task="a",outcome="succeeded"} 7
taskqueue_jobs_finished_total{system="arq",broker="default",queue="arq:queue",task="b",outcome="succeeded"} 2
taskqueue_jobs_finished_total{system="arq",broker="default",queue="arq:queue",task="b",outcome="failed"} 1
taskqueue_jobs_finished_total{system="arq",broker="default",queue="arq:queue",task="b",outcome="expired"} 3
# TYPE taskqueue_unacked_jobs gauge
taskqueue_unacked_jobs{system="celery",broker="default"} 4
# TYPE taskqueue_worker_up gauge
taskqueue_worker_up{system="celery",broker="default",worker="b@h"} 1
taskqueue_worker_up{system="celery",broker="default",worker="lost@h"} 0
taskqueue_worker_up{system="celery",broker="default",worker="a@h"} 1
taskqueue_worker_up{system="arq",broker="default",worker="arq-1"} 1
# TYPE taskqueue_broker_up gauge
taskqueue_broker_up{broker="default"} 1
"""


def cells(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_row_tells_states_age_ends_and_workers() -> None:
    table = render(parse(METRICS), {("arq", "arq:queue"): 1}, now=1000.0)

    assert ["arq", "arq:queue", "3", "0", "2", "4.5", "9", "4", "1"] in cells(table)


def test_what_is_unknown_is_a_dash_and_never_a_zero() -> None:
    table = render(parse(METRICS), {}, now=1000.0)

    assert ["celery", "emails", "1200", *[ABSENT] * 5, "0"] in cells(table)


def test_a_consumed_queue_that_the_exporter_does_not_see_yet_has_a_row() -> None:
    table = render(parse(""), {("celery", "default"): 2}, now=1000.0)

    assert cells(table)[1:] == [["celery", "default", *[ABSENT] * 6, "2"]]


def test_rows_are_sorted_below_the_headings_and_what_is_told_of_systems_follows() -> None:
    lines = render(parse(METRICS), {}, now=1000.0).splitlines()

    assert lines[0].split() == " ".join(HEADINGS).split()
    assert [line.split()[0] for line in lines[1:3]] == ["arq", "celery"]
    assert lines[3:] == ["celery: 4 jobs unacknowledged", "arq: alive arq-1", "celery: alive a@h, b@h"]


def test_columns_line_up() -> None:
    lines = render(parse(METRICS), {}, now=1000.0).splitlines()[:3]

    assert len({len(line) for line in lines}) == 1


def test_a_clock_that_is_behind_shows_no_negative_age() -> None:
    assert ["arq", "arq:queue", "3", "0", "2", "0.0", "9", "4", "0"] in cells(render(parse(METRICS), {}, now=990.0))


def test_no_server_is_an_os_error(unused_tcp_port: int) -> None:
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://127.0.0.1:{unused_tcp_port}/metrics", timeout=1)
