"""The demo, watched for a minute: the alerts that it gets, and what the dashboards show of it.

It gets the alerts that it deserves and no others; every query of every dashboard has data; two replicas show what one
shows; what Grafana makes of the answers leads on to the next dashboard.

Time runs ten times as fast in the rules and the dashboards, but not in the demo. `TEST_DEMO_SECONDS=600` runs it for
ten minutes, with both as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean

import pytest

from exporter.demo import queues
from grafana.src.links import RUNBOOKS
from tests.dashboards import Dashboard, Panel, dashboards
from tests.e2e import pairs
from tests.e2e.alerting import JOB, SCRAPE_INTERVAL
from tests.e2e.deserved import DESERVED, HOST, Deserved
from tests.e2e.untold import NOBODY, silent, surprises
from tests.e2e.watched import ALONE, DEADLINE, FACTOR, PAIR, Watched, watch
from tests.grafana_answers import Asking, Selection, points
from tests.grafana_check import Checked, Link, checked
from tests.servers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", "redis-server")]
in_node = pytest.mark.needs("node", "npm")
often_scraped = pytest.mark.skipif(FACTOR == 1, reason="bursts of 24 s, scraped each 15 s, are matters of chance")

BOTH = ("arq", "celery")
ALL = Selection("All")
OF_ALL = Selection(JOB, {"job": JOB})
ONES = (
    Selection("of ARQ", {"job": JOB, "system": "arq", "queue": "arq:queue", "task": "sync_contacts"}),
    Selection("of Celery", {"job": JOB, "system": "celery", "queue": "default", "task": "sync_contacts"}),
)
"""A task that fails and is retried, in a queue that has workers."""
MISTAKES = (
    'sum without (instance) (rate(taskqueue_jobs_finished_total{job=~"$job"}[$__rate_interval]))',
    'sum(rate(taskqueue_jobs_finished_total{job=~"$job"}[5m]))',
    'sum without (instance) (taskqueue_queue_jobs{job=~"$job", queue=~".*archive"})',
    'count(taskqueue_worker_up{job=~"$job"} == 1)',
)
"""Queries that count what two replicas see twice."""
QUEUES = {
    "arq": {queues.ARQ_QUEUE, queues.ARQ_REPORTS, queues.ARQ_UNSTAFFED},
    "celery": {
        queues.CELERY_DEFAULT,
        queues.CELERY_EMAILS,
        queues.CELERY_REPORTS,
        queues.CELERY_UNSTAFFED,
    },
}
"""The demo's, by system."""
THERE_IS = {"system": {*QUEUES}, "queue": QUEUES["arq"] | QUEUES["celery"]}
"""What variables offer, of the demo."""
WINDOW = 21 * SCRAPE_INTERVAL / FACTOR
"""Seconds that recorded rates look back for."""
MOST_ROWS = 20
"""Of a table that `grafana/preview/check.mjs` gives."""


def board(uid: str) -> Dashboard:
    (found,) = (one for one in dashboards() if one.uid == uid)
    return found


def panel(uid: str, title: str) -> Panel:
    (found,) = (one for one in board(uid).panels if one.title == title)
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watch(tmp_path_factory.mktemp("demo")) as seen:
        yield seen


@pytest.fixture(scope="module")
def asking(watched: Watched) -> Asking:
    return Asking(watched.prometheus, watched.began, watched.ended, FACTOR)


# -- alerts -----------------------------------------------------------------------------------------------------


def test_nothing_fires_that_is_not_deserved(watched: Watched) -> None:
    fired = [labels for labels in watched.fired() if labels["alertname"] not in ("Watchdog", *HOST)]
    assert [labels for labels in fired if not any(one.is_one(labels) for one in DESERVED)] == []


@pytest.mark.parametrize("deserved", [one for one in DESERVED if one.always], ids=lambda one: one.alertname)
def test_what_is_deserved_fires(watched: Watched, deserved: Deserved) -> None:
    assert any(deserved.is_one(labels) for labels in watched.fired()), deserved


def test_every_rule_can_be_evaluated(watched: Watched) -> None:
    assert watched.broken_rules == []


# -- data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", [ALL, OF_ALL, Selection(PAIR, {"job": PAIR})], ids=lambda one: one.name)
def test_every_query_has_data(asking: Asking, selection: Selection) -> None:
    assert surprises(asking.shown(dashboards(), selection), BOTH) == []
    assert len({one.why for one in NOBODY}) <= 5


def test_every_part_of_a_query_has_data(asking: Asking) -> None:
    assert silent(asking.in_parts(dashboards(), OF_ALL)) == []


@pytest.mark.parametrize("system", ALONE)
def test_of_one_system_alone_all_is_shown_that_can_be_known(asking: Asking, system: str) -> None:
    assert surprises(asking.shown(dashboards(), Selection(system, {"job": system})), [system]) == []


@pytest.mark.parametrize("selection", ONES, ids=lambda one: one.name)
def test_nothing_is_shown_that_is_not_selected(asking: Asking, selection: Selection) -> None:
    shown = asking.shown(dashboards(), selection)

    series = [(one.panel, labels) for one in shown for answer in one.answers.values() for labels in points(answer)]
    assert {one.uid for one, _ in series} == {one.uid for one in dashboards()}
    assert [(str(one), labels) for one, labels in series if not is_within(one, dict(labels), selection)] == []


def is_within(shown: Panel, labels: Mapping[str, str], selection: Selection) -> bool:
    """Whether a series is of what is selected. One that has no such label is: an alert of an exporter, say, is about
    every queue."""
    selected = selection.of(board(shown.uid))
    narrowed = {name: value for name, value in selection.values.items() if name in selected}
    return all(labels.get(name, value) == value for name, value in narrowed.items())


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda one: one.uid)
def test_every_variable_offers_what_there_is(asking: Asking, dashboard: Dashboard) -> None:
    selected = OF_ALL.of(dashboard)
    for name in selected:
        offered = asking.offered(dashboard, name, selected)
        assert set(offered) == THERE_IS[name] if name in THERE_IS else offered, name
    assert {JOB, PAIR, *ALONE} == set(asking.offered(dashboard, "job", ALL.of(dashboard)))


@pytest.mark.parametrize("system", QUEUES)
@pytest.mark.parametrize("uid", ["tq-overview", "tq-system", "tq-task"])
def test_a_variable_offers_what_is_of_those_before_it(asking: Asking, uid: str, system: str) -> None:
    selected = OF_ALL.of(board(uid)) | {"system": system}
    assert set(asking.offered(board(uid), "queue", selected)) == QUEUES[system]
    assert asking.offered(board(uid), "queue", selected | {"broker": "another"}) == []
    assert asking.offered(board(uid), "queue", selected | {"job": ({*QUEUES} - {system}).pop()}) == []


@pytest.mark.parametrize("system", QUEUES)
def test_tasks_are_those_of_the_queue(asking: Asking, system: str) -> None:
    shown = board("tq-task")
    selected = OF_ALL.of(shown) | {"system": system}
    ended = f'max by (queue, task) (taskqueue_jobs_finished_total{{job="{JOB}", system="{system}"}})'
    known = {(labels["queue"], labels["task"]) for labels in map(dict, points(asking.query(ended, {})))}
    assert set(asking.offered(shown, "task", selected)) == {task for _, task in known}
    for queue in {queue for queue, _ in known}:
        offered = asking.offered(shown, "task", selected | {"queue": queue})
        assert set(offered) == {task for of, task in known if of == queue}


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda one: one.uid)
def test_every_annotation_marks_something(asking: Asking, dashboard: Dashboard) -> None:
    for annotation in dashboard.annotations:
        marked = points(asking.query(annotation["expr"], OF_ALL.of(dashboard)))
        assert marked, annotation["name"]
        if "useValueForTime" in annotation:
            # A process starts a little before it is watched.
            first, last = asking.began - DEADLINE, asking.ended
            times = [value / 1000 for samples in marked.values() for _, value in samples]
            assert [at for at in times if not first <= at <= last] == [], annotation["name"]


# -- replicas ---------------------------------------------------------------------------------------------------


def of_pairs() -> list[tuple[Panel, str, dict[str, str]]]:
    """All queries about what replicas see alike, with the values of variables."""
    every = [(shown, query.expr) for one in dashboards() for shown in one.panels for query in shown.queries]
    return [(shown, expr, ALL.of(board(shown.uid))) for shown, expr in every if pairs.is_of_pairs(expr)]


@often_scraped
def test_two_replicas_show_what_one_shows(asking: Asking) -> None:
    found = {(str(shown), expr): pairs.wrong(asking, expr, values) for shown, expr, values in of_pairs()}
    assert {query: share for query, share in found.items() if share > pairs.TOO_MANY} == {}


def test_two_replicas_show_of_what_one_shows(asking: Asking) -> None:
    found = {(str(shown), expr): pairs.unlike(asking, expr, values) for shown, expr, values in of_pairs()}
    assert {query: series for query, series in found.items() if series} == {}


@pytest.mark.parametrize("expr", MISTAKES)
def test_what_counts_twice_is_found(asking: Asking, expr: str) -> None:
    assert pairs.wrong(asking, expr, {}) > pairs.TOO_MANY


@often_scraped
def test_what_is_twice_as_much_is_found(asking: Asking) -> None:
    shares = [pairs.wrong(asking, expr, values, times=2.0) for _, expr, values in of_pairs()]
    told = [share for share in shares if share > 0]  # it cannot be told of what is 0
    assert sum(share > pairs.TOO_MANY for share in told) > 0.8 * len(told) > 0.5 * len(shares)


def test_as_many_jobs_finish_as_the_exporter_counts(asking: Asking) -> None:
    finished = panel("tq-overview", "Finished").queries[0].expr
    shown = over_time(asking, finished, ALL.of(board("tq-overview")) | {"job": PAIR})
    counted = over_time(asking, f'sum(taskqueue_jobs_finished_total{{job="{JOB}"}})', {})

    # At each moment the jobs of the time before that rates look back for.
    moments = [at for at in shown if at >= asking.began + pairs.SETTLED]
    by_panel = fmean(shown[at] * WINDOW for at in moments)
    by_exporter = fmean(counted[at] - counted[earlier(counted, at - WINDOW)] for at in moments)
    assert by_panel == pytest.approx(by_exporter, rel=0.15)


def over_time(asking: Asking, expr: str, values: Mapping[str, str]) -> dict[float, float]:
    """The values of the one series that a query gives."""
    (samples,) = points(asking.query(expr, values)).values()
    return dict(samples)


def earlier(samples: Iterable[float], at: float) -> float:
    """The moment that is nearest."""
    return min(samples, key=lambda moment: abs(moment - at))


# -- links ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(asking: Asking) -> list[Checked]:
    """All panels as Grafana shows them, with the job selected that sees all."""
    return checked(asking.shown(dashboards(), OF_ALL), OF_ALL, asking.began, asking.ended)


@in_node
def test_grafana_shows_every_panel_as_it_is_meant(seen: list[Checked]) -> None:
    assert [(str(one.panel), one.errors) for one in seen if one.errors] == []


@in_node
def test_every_link_leads_somewhere(seen: list[Checked]) -> None:
    links = [(str(one.panel), link) for one in seen for link in one.links if link.text]
    assert [(shown, link.url.geturl()) for shown, link in links if not leads_somewhere(link)] == []


def leads_somewhere(link: Link) -> bool:
    """To a dashboard with values for variables that it has, or to a page of this project that is there."""
    if link.uid:
        known = {"datasource", *ALL.of(board(link.uid))}
        return link.selected.keys() <= known and all(link.selected.values())
    return is_runbook(link)


def is_runbook(link: Link) -> bool:
    return link.url.geturl() == f"{RUNBOOKS}{link.text}.md" and (ROOT / "docs/runbooks" / f"{link.text}.md").is_file()


@in_node
@pytest.mark.parametrize(
    ("uid", "title", "target", "labels"),
    [
        ("tq-overview", "Queues", "tq-system", ("job", "system", "broker", "queue")),
        ("tq-system", "Tasks", "tq-task", ("job", "system", "broker", "queue", "task")),
    ],
)
def test_a_row_leads_to_what_it_is_about(
    seen: list[Checked], asking: Asking, uid: str, title: str, target: str, labels: tuple[str, ...]
) -> None:
    table = panel(uid, title)
    (links,) = (one.links for one in seen if one.panel == table)
    shown = asking.panel(table, OF_ALL.of(board(uid)))
    rows = [dict(row) for answer in shown.answers.values() for row in points(answer)]
    about = {tuple(row[name] for name in labels) for row in rows}

    assert {link.uid for link in links} == {target}
    assert {tuple(link.selected[name] for name in labels) for link in links} <= about
    assert len(links) == min(len(about), MOST_ROWS)


@in_node
def test_alerts_lead_to_their_runbooks(seen: list[Checked]) -> None:
    (links,) = (one.links for one in seen if one.panel == panel("tq-overview", "Alerts"))
    assert {"QueueStalled", "TaskFailing"} <= {link.text for link in links if is_runbook(link)}
