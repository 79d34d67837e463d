"""Recorded rates, ratios and increases are true with two exporters, whatever becomes of one of them.

promtool evaluates the project's rules over three hours and compares each series with the truth every minute.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scripts.rulebook import RULES, records, rests_on
from tests.promtool import LAZY
from tests.rules.replicas import (
    BROKER,
    GRID,
    SCRAPE_INTERVAL,
    Job,
    Key,
    Replica,
    input_series,
    moments,
    selector,
    shown,
)
from tests.rules.replicas_truth import HOUR, RECORDED, Recorded, Truth, target_labels
from tests.thorough import THOROUGH

pytestmark = pytest.mark.needs("promtool")

TOLERANCE: Final = 0.02
MINUTE: Final = 60
BEGIN: Final = 10 * MINUTE
"""When the first jobs end."""
UNTIL: Final = 200 * MINUTE
JUDGED: Final = 80 * MINUTE
"""From when on truth and record are compared: then an hour has been seen."""
FOREVER: Final = 1e9
ALWAYS: Final = (-1e6, FOREVER)
PROMTOOL_DEADLINE: Final = 120.0

JUDGED_FROM: Final = {"steady": 0, "random": 10 * MINUTE, "mixed": HOUR, "sparse": 6 * HOUR, "bursts": 6 * HOUR}
"""The shortest window, in seconds, over which a queue's numbers are compared. In shorter ones there are so few events
that it matters whether one of them came before a scrape or after it."""
FIRST_EVENT: Final = 0.05
"""By so much too little the first event counts that a process shows of a series: `rate()` does not look beyond a 0. And
it shows 45 seconds later: for so long the mean has only half of a burst."""
ELSEWHERE: Final = {
    "queue:taskqueue_queue_busy_slots:ratio": "of gauges",
}
"""Recorded numbers that are compared with nothing here, and why."""


# -- what really happens ----------------------------------------------------------------------------------------


def steady(every: float) -> Iterator[Job]:
    """Jobs at regular times, each tenth of which fails, each twentieth of which is aborted, each fifth late."""
    for number in range(int((UNTIL - BEGIN) / every)):
        fails = number % 10 == 3
        exception = ("ValueError" if number % 20 == 3 else "KeyError") if fails else ""
        outcome = "failed" if fails else "aborted" if number % 20 == 7 else "succeeded"
        late, long = 90.0 if number % 5 == 0 else 1.0, 5.0 if number % 2 else 0.5
        at = BEGIN + number * every
        yield Job(at, "steady", "send", outcome, exception, retried=number % 8 == 0, wait=late, run=long)


def at_random(queue: str, every: float, seed: int) -> Iterator[Job]:
    """As a Poisson process has it; a tenth fails, is retried, is late."""
    chance = random.Random(seed)
    at = BEGIN + chance.expovariate(1 / every)
    while at < UNTIL:
        fails = chance.random() < 0.1 if every < 1 else chance.random() < 0.5
        late = 90.0 if chance.random() < 0.1 else 1.0
        outcome, exception = ("failed", "OSError") if fails else ("succeeded", "")
        yield Job(at, queue, "post", outcome, exception, retried=chance.random() < 0.1, wait=late)
        at += chance.expovariate(1 / every)


def mixed() -> Iterator[Job]:
    """Many jobs that go well; four minutes and a bit from one that does not to the next."""
    for number in range((UNTIL - BEGIN) // 2):
        yield Job(BEGIN + number * 2, "mixed", "charge")
    for number in range(int((UNTIL - BEGIN) / 240.7)):
        yield Job(BEGIN + 33.7 + number * 240.7, "mixed", "refund", "failed", "KeyError", retried=True, wait=90.0)


def bursts() -> Iterator[Job]:
    """Sixty jobs within three seconds, every 22 minutes."""
    for begin in range(BEGIN + 400, UNTIL, 1307):
        for number in range(60):
            fails = number % 5 == 0
            outcome, exception = ("failed", "OSError") if fails else ("succeeded", "")
            late = 90.0 if number % 3 == 0 else 1.0
            yield Job(begin + number * 0.05, "bursts", "import", outcome, exception, retried=number % 6 == 0, wait=late)


@cache
def truth() -> Truth:
    return Truth(
        [*steady(0.5), *at_random("random", 0.5, 1), *mixed(), *at_random("sparse", 240.0, 2), *bursts()], UNTIL
    )


@cache
def rises() -> dict[Key, list[float]]:
    return moments(truth().jobs)


def minutes(begin: float, seconds: float) -> tuple[float, float]:
    """A span that begins so many minutes after the start."""
    return begin * MINUTE, begin * MINUTE + seconds


def lives(*restarts: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Of an exporter that is away for these spans."""
    begins = [ALWAYS[0], *(end for _, end in restarts)]
    return tuple(zip(begins, [*(begin for begin, _ in restarts), FOREVER], strict=True))


FIRST: Final = Replica(
    "first:9815",
    phase=5,
    # Restarted twice: with scrapes that fail meanwhile, and so fast that none does.
    lives=lives(minutes(85, 43), minutes(140.1, 4)),
    missed=(minutes(105, 28), minutes(180, 15)),
)
SECOND: Final = Replica(
    "second:9815",
    phase=10,
    lives=(ALWAYS,),
    gaps=(minutes(122, 40),),  # its connection to the broker is lost: what happens then it never counts
    missed=(minutes(95, 15), minutes(155, 240), minutes(183, 15)),
)


# -- promtool ---------------------------------------------------------------------------------------------------

Change = Callable[[str], str]
"""Of the expression of a rule."""


def unchanged(expr: str) -> str:
    return expr


def judged_rules(change: Change) -> str:
    """What is compared, and what it rests on: the other rules would take promtool as long again."""
    groups = yaml.safe_load((RULES / "recording.yml").read_text())
    needed = rests_on(*RECORDED)
    for group in groups["groups"]:
        group["rules"] = [
            rule | {"expr": change(str(rule["expr"]))} for rule in group["rules"] if rule["record"] in needed
        ]
    return json.dumps(groups)


@dataclass(frozen=True, slots=True)
class Case:
    """Input for promtool: what two replicas show, and the truth."""

    series: Sequence[dict[str, str]]
    expressions: Sequence[dict[str, Any]]
    grid: int = GRID

    def run(self, directory: Path, change: Change = unchanged) -> str:
        """What promtool says about it and the rules, which may be changed; empty where all is as expected."""
        test = {
            "interval": f"{self.grid}s",
            "input_series": self.series,
            "promql_expr_test": self.expressions,
        }
        file = directory / "replicas.yml"  # JSON is YAML, and faster to write and to read
        rules = directory / "recording.yml"
        rules.write_text(judged_rules(change))
        files = [str(RULES / "targets.yml"), str(rules)]
        file.write_text(json.dumps({"rule_files": files, "evaluation_interval": "30s", "tests": [test]}))
        command = ["promtool", "test", "rules", str(file)]
        environment = LAZY | os.environ
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROMTOOL_DEADLINE, env=environment, check=False
        )
        assert (done.returncode == 0) == ("FAILED" not in done.stderr + done.stdout), done.stderr
        return "" if done.returncode == 0 else done.stderr + done.stdout


Allowed = Callable[[Recorded, str], float | None]
"""By how much a number of a queue may be off, as a share of the truth; None where they are not compared."""


def case(*replicas: Replica, allowed: Allowed) -> Case:
    """What two replicas show, each number compared with the truth."""
    series = [line for replica in replicas for line in input_series(replica, shown(replica, rises(), UNTIL))]
    series += [line for replica in replicas for line in _queues(replica)]
    expressions: list[dict[str, Any]] = []
    for name, recorded in RECORDED.items():
        queues = {queue: off for queue in JUDGED_FROM if (off := allowed(recorded, queue)) is not None}
        series += _truth_series(name, recorded, queues)
        expressions += [line for queue, off in queues.items() for line in _comparisons(name, queue, off)]
    return Case(series, expressions)


def within_two_percent(recorded: Recorded, queue: str) -> float | None:
    """Some number that is made of few events, or of few bursts, may be off by the first."""
    if recorded.window < JUDGED_FROM[queue]:
        return None
    few = queue == "sparse" or (queue == "bursts" and not recorded.among)
    return FIRST_EVENT if few else TOLERANCE


def _queues(replica: Replica) -> Iterator[dict[str, str]]:
    """Targets are recorded for queues that are there."""
    for queue in JUDGED_FROM:
        labels = {**replica.labels, **BROKER, "queue": queue, "state": "ready"}
        yield {"series": selector("taskqueue_queue_jobs", labels), "values": f"3x{UNTIL // GRID}"}


def _truth_series(name: str, recorded: Recorded, queues: Collection[str]) -> Iterator[dict[str, str]]:
    between = f"_x{MINUTE // GRID - 1}"
    for labels, value in truth().of(recorded).items():
        if dict(labels)["queue"] in queues:
            values = [value(at) for at in range(0, UNTIL + 1, MINUTE)]
            text = " ".join(f"{number:.12g} {between}" for number in values)
            yield {"series": selector(f"truth:{name}", target_labels(labels)), "values": text}


def _comparisons(name: str, queue: str, allowed: float) -> Iterator[dict[str, Any]]:
    window = f"[{UNTIL - JUDGED}s:{MINUTE}s]"
    true = f'(truth:{name}{{queue="{queue}"}} > 0)'
    ratio = f"({name} / {true})"
    yield {
        "expr": f"max_over_time(abs({ratio} - 1){window}) > {allowed}",
        "eval_time": f"{UNTIL}s",
        "exp_samples": [],
    }
    # There is something to compare, and each series of it is there whenever it should be.
    times = f"count_over_time({true}{window})"
    yield {
        "expr": f"count({times}) == bool count(count_over_time({ratio}{window}) == {times})",
        "eval_time": f"{UNTIL}s",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }


@pytest.fixture(scope="module")
def two_replicas() -> Case:
    return case(FIRST, SECOND, allowed=within_two_percent)


# -- tests ------------------------------------------------------------------------------------------------------


def test_every_recorded_rate_ratio_and_increase_is_compared_with_the_truth() -> None:
    operations = {rule.name: rule.name.rpartition(":")[2] for rule in records() if rule.file == "recording.yml"}
    named = {name for name, operation in operations.items() if re.search("rate|ratio|increase", operation)}
    of_all = {name for name in named if not name.startswith("instance")}  # those are of one replica
    assert of_all == RECORDED.keys() | ELSEWHERE.keys()


def test_what_is_recorded_is_within_two_percent_of_the_truth(two_replicas: Case, tmp_path: Path) -> None:
    """One exporter is restarted twice, scrapes of both fail, one is away for four minutes, one loses its broker."""
    assert not two_replicas.run(tmp_path)


MEAN: Final = re.compile(
    r"sum without \(instance, pod\) \(\s*(\S+) \* ignoring [^\n]*?instance:taskqueue_feed_share:ratio\s*\)"
    r"\s*or max without \(instance, pod\) \(\s*\1 unless [^\n]*?instance:taskqueue_feed_complete:bool\s*\)"
)
"""The mean of the replicas that saw all, else the highest."""


WITHOUT_UP: Final = re.compile(r"\s*and ignoring \(system, broker\) min_over_time\(up\[6m\]\) == 1")
MISTAKES: Final = {
    "the highest": (MEAN, r"max without (instance, pod) (\1)"),
    "the sum": (MEAN, r"sum without (instance, pod) (\1)"),
    "those too whose scrapes failed": (WITHOUT_UP, ""),
    "five minutes without a scrape more": (re.compile(r"\[5m15s\]"), "[5m]"),
}
"""Rules that look good: what stands in them, and what could."""


@pytest.mark.parametrize("mistake", MISTAKES if THOROUGH else ["the sum", "those too whose scrapes failed"])
def test_a_mistake_in_the_rules_is_found(two_replicas: Case, tmp_path: Path, mistake: str) -> None:
    """It is the comparison that finds out, not the rules' own word."""
    what, instead = MISTAKES[mistake]
    changed = set()

    def make(expr: str) -> str:
        made = what.sub(instead, expr)
        if made != expr:
            changed.add(made)
        return made

    said = two_replicas.run(tmp_path, make)
    assert changed
    assert said.count("got:") > 3, f"{len(changed)} rules changed, and this was found:\n{said}"


IN_FLIGHT: Final = {
    "both have seen all": "0",
    "one has just started": "0x70 1500",
}
"""When the process of the one that does not know the queue started."""


@pytest.mark.parametrize("started", IN_FLIGHT.values(), ids=IN_FLIGHT)
def test_a_job_counts_once_though_one_exporter_does_not_know_its_queue(tmp_path: Path, started: str) -> None:
    """It ran when that one started, which learns of its end only."""
    knows = {"task": "render", "queue": "long"}
    unknown = {"task": "__unknown__", "queue": "__unknown__"}
    series = []
    for replica, start, labels in ((FIRST, started, unknown), (SECOND, "0", knows)):
        mine = {**replica.labels, **BROKER}
        rise = {**mine, **labels, "outcome": "succeeded"}
        series += [
            {"series": selector("up", replica.labels), "values": "1x120"},
            {"series": selector("process_start_time_seconds", replica.labels), "values": f"{start}x120"},
            {"series": selector("taskqueue_feed_gap_seconds_total", {**mine, "feed": "events"}), "values": "0x120"},
            {"series": selector("taskqueue_jobs_finished_total", rise), "values": "100+15x120"},
        ]
    once = [
        {"expr": f"round(sum({name}), 0.02)", "eval_time": f"{at}m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for name in (
            "queue_outcome:taskqueue_jobs_finished:rate5m",
            "queue_task_outcome:taskqueue_jobs_finished:rate5m",
        )
        for at in (18, 20, 25)
    ]
    assert not Case(series, once, grid=SCRAPE_INTERVAL).run(tmp_path)


BOTH_AWAY: Final = (
    Replica("first:9815", 5, lives(minutes(100, 20))),
    Replica("second:9815", 10, lives(minutes(100.05, 20))),
)
WHILE_BOTH_WERE_AWAY: Final = 0.25
"""What is lost of a 5-minute rate: 20 seconds, and until it shows again what a new process holds back, 45."""


def shares_and_long_windows(recorded: Recorded, queue: str) -> float | None:
    if queue != "steady":
        return None
    return TOLERANCE if recorded.among or recorded.window >= HOUR else WHILE_BOTH_WERE_AWAY


def test_shares_and_counts_of_an_hour_are_true_though_both_restart_at_once(tmp_path: Path) -> None:
    """Nobody saw what happened then. Rates are too low for some minutes, of jobs that fail as of those that do not."""
    assert not case(*BOTH_AWAY, allowed=shares_and_long_windows).run(tmp_path)
