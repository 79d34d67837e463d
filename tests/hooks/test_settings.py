"""What `instrument` makes of settings: every form of them, and nothing of the user's lost or changed."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from arq.cron import cron
from arq.worker import Function, Worker, create_worker, func

from taskqueue_hooks import instrument
from tests.hooks.stage import QUEUE, Stage


async def add(ctx: dict[Any, Any], one: int = 1, *, other: int = 2) -> int:
    """Adds."""
    return one + other


async def tidy(ctx: dict[Any, Any]) -> None:
    """A cron job."""


class Settings:
    """Settings of the user's."""

    functions: list[Any] = [add]  # noqa: RUF012
    max_jobs = 3
    note = "not arq's"


# -- forms of settings ------------------------------------------------------------------------------------------


FORMS: dict[str, Callable[[], Any]] = {
    "class": lambda: instrument(Settings),
    "decorator with options": lambda: instrument(beat=2, name="mailer")(Settings),
    "dict": lambda: instrument({"functions": [add], "max_jobs": 3}),
    "decorator of a dict": lambda: instrument()({"functions": (add,), "max_jobs": 3}),
}


@pytest.mark.usefixtures("all_is_well")
@pytest.mark.parametrize("form", FORMS)
async def test_a_worker_of_every_form_reports(stage: Stage, form: str) -> None:
    worker = await stage.run(FORMS[form](), "add")
    assert stage.outcomes() == [("add", "succeeded", "")]
    assert worker.max_jobs == 3


async def test_a_workers_keyword_arguments(stage: Stage) -> None:
    worker = Worker(
        **instrument({"functions": [add], "redis_pool": stage.pool, "burst": True, "handle_signals": False})
    )
    await stage.enqueue("add")
    await worker.async_run()
    await worker.close()
    assert stage.outcomes() == [("add", "succeeded", "")]


def test_the_class_is_like_the_users() -> None:
    made = instrument(Settings)
    assert made is not Settings
    assert issubclass(made, Settings)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "max_jobs", "note"):
        assert getattr(made, name) == getattr(Settings, name)
    assert {"functions", "max_jobs", "note", "on_startup", "on_shutdown"} <= vars(made).keys()


def test_what_is_inherited_is_as_arq_sees_it() -> None:
    class Heir(Settings):
        functions: list[Any] = [tidy]  # noqa: RUF012

    assert create_worker(dict(vars(instrument(Heir))), handle_signals=False, redis_pool=object()).max_jobs == 10


def test_a_class_with_slots_and_one_of_another_metaclass() -> None:
    class Meta(type):
        pass

    class Slotted(metaclass=Meta):
        __slots__ = ("one",)
        functions = [add]  # noqa: RUF012

    made = instrument(Slotted)
    assert type(made) is Meta
    assert vars(made)["functions"] == [add]


# -- functions and cron jobs ------------------------------------------------------------------------------------


class Special(Function):
    """A function of a class of the user's own."""


special = Special("special", add, 1.5, 2.5, True, 3)
special.colour = "red"  # type: ignore[attr-defined]
with_name = functools.partial(add, other=5)

FUNCTIONS: dict[str, tuple[Any, str]] = {
    "coroutine function": (add, "add"),
    "func()": (func(add, name="plus", timeout=3, keep_result=4, max_tries=5, keep_result_forever=False), "plus"),
    "dotted name": ("tests.hooks.test_settings.add", "tests.hooks.test_settings.add"),
    "partial": (func(with_name, name="partial"), "partial"),  # type: ignore[arg-type]
    "subclass": (special, "special"),
}


@pytest.mark.usefixtures("all_is_well")
@pytest.mark.parametrize("form", FUNCTIONS)
async def test_every_form_of_a_function(stage: Stage, form: str) -> None:
    function, name = FUNCTIONS[form]
    before = copy.copy(vars(function)) if isinstance(function, Function) else None
    plain: Any = func(function)

    worker = await stage.run(instrument({"functions": [function]}), name)

    wrapped: Any = worker.functions[name]
    assert type(wrapped) is type(plain)
    assert {**vars(wrapped), "coroutine": None} == {**vars(plain), "coroutine": None}
    assert wrapped.coroutine.__wrapped__ is plain.coroutine
    assert inspect.signature(wrapped.coroutine) == inspect.signature(plain.coroutine)
    assert stage.outcomes() == [(name, "succeeded", "")]
    assert before is None or vars(function) == before


@pytest.mark.usefixtures("all_is_well")
async def test_a_cron_job(stage: Stage) -> None:
    job = cron(tidy, month=1, day=1, run_at_startup=True)
    worker = await stage.run(instrument({"cron_jobs": [job], "max_burst_jobs": 1}))
    assert stage.outcomes() == [("cron:tidy", "succeeded", "")]
    assert job.coroutine is tidy
    assert worker.cron_jobs == [job]
    assert job.next_run is not None


async def test_the_originals_stay_as_they_are(stage: Stage) -> None:
    functions: list[Any] = [add, func(add, name="plus")]
    crons = [cron(tidy, hour=1)]
    settings = {"functions": functions, "cron_jobs": crons, "max_jobs": 4}
    made = instrument(settings)
    assert settings == {"functions": functions, "cron_jobs": crons, "max_jobs": 4}
    assert made.items() >= settings.items()
    await stage.run(made, "plus")
    assert functions[0] is add
    assert functions[1].coroutine is add
    assert crons[0].coroutine is tidy
    assert vars(instrument(Settings))["functions"] == vars(Settings)["functions"] == [add]


async def test_twice_is_once(stage: Stage) -> None:
    once = instrument({"functions": [add], "cron_jobs": [cron(tidy, hour=1)]})
    twice = instrument(once)
    assert twice == once
    await stage.run(twice, "add")
    assert [end["n"] for end in stage.ends()] == ["1"]


@pytest.mark.usefixtures("all_is_well")
async def test_a_job_that_calls_another_is_one_job(stage: Stage) -> None:
    async def outer(ctx: dict[Any, Any]) -> None:
        coroutine: Any = ctx["worker"][0].functions["add"].coroutine
        assert await coroutine(ctx, 2, other=3) == 5

    made: list[Worker] = []
    settings = instrument({"functions": [add, func(outer, name="outer")], "ctx": {"worker": made}})
    made.append(stage.worker(settings))
    await stage.enqueue("outer")
    await made[0].async_run()
    await made[0].close()
    assert stage.outcomes() == [("outer", "succeeded", "")]


@pytest.mark.usefixtures("all_is_well")
async def test_arguments_may_have_any_name(stage: Stage) -> None:
    async def told(first: dict[Any, Any], /, **named: Any) -> None:
        stage.log.append(named)

    worker = stage.worker(instrument({"functions": [func(told, name="told")]}))  # type: ignore[arg-type]
    named = {name: name for name in ("ctx", "args", "kwargs", "worker", "attempt")}
    await stage.enqueue("told", **named)
    await worker.async_run()
    await worker.close()
    assert stage.log == [named]
    assert stage.outcomes() == [("told", "succeeded", "")]


async def test_a_wrapper_that_others_put_round_a_function_later_is_within_ours(stage: Stage) -> None:
    """As an integration does that wraps what a worker is made with. Of time-outs only the outermost can tell."""

    @functools.wraps(add)
    async def theirs(ctx: dict[Any, Any]) -> int:
        await asyncio.sleep(0)
        return await add(ctx)

    function = func(add)
    made = instrument({"functions": [function]})
    function.coroutine = theirs
    worker = await stage.run(made, "add")
    coroutine: Any = worker.functions["add"].coroutine
    assert coroutine.__wrapped__ is theirs
    assert stage.outcomes() == [("add", "succeeded", "")]


async def test_a_worker_that_ended_tells_no_more(stage: Stage) -> None:
    worker = await stage.run(instrument({"functions": [add]}), "add")
    ctx: dict[Any, Any] = {"job_id": "1", "job_try": 1, "score": 1000}
    assert await worker.functions["add"].coroutine(ctx, 2) == 4
    assert list(ctx) == ["job_id", "job_try", "score"]


# -- the user's hooks -------------------------------------------------------------------------------------------


async def test_the_users_hooks_are_called_as_without_us(stage: Stage) -> None:
    called: list[tuple[str, dict[Any, Any]]] = []

    def hook(name: str) -> Callable[[dict[Any, Any]], Any]:
        async def call(ctx: dict[Any, Any]) -> None:
            """Of the user's."""
            called.append((name, ctx))

        return call

    names = ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")
    made = instrument({"functions": [add], **{name: hook(name) for name in names}})
    assert made["on_startup"].__doc__ == made["on_shutdown"].__doc__ == "Of the user's."
    worker = await stage.run(made, "add")
    assert [name for name, _ in called] == list(names)
    assert called[0][1] is called[-1][1] is worker.ctx


async def test_what_on_startup_raises_is_the_workers_end(stage: Stage) -> None:
    async def on_startup(ctx: dict[Any, Any]) -> None:
        raise LookupError("no database")

    worker = stage.worker(instrument({"functions": [add], "on_startup": on_startup}))
    with pytest.raises(LookupError, match="no database"):
        await worker.async_run()
    assert stage.client.keys("taskqueue:*") == []


async def test_what_on_shutdown_raises_comes_after_the_goodbye(stage: Stage) -> None:
    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        stage.log.append((stage.outcomes(), stage.hashes()))
        raise LookupError("no database")

    worker = stage.worker(instrument({"functions": [add], "on_shutdown": on_shutdown}))
    await stage.enqueue("add")
    await worker.async_run()
    with pytest.raises(LookupError, match="no database"):
        await worker.close()
    assert stage.log == [([("add", "succeeded", "")], [])]
    worker.on_shutdown = None


# -- what cannot be done ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "options", "error", "message"),
    [
        (42, {}, TypeError, "must be a class or a dict, not 42"),
        ([add], {}, TypeError, "must be a class or a dict"),
        (Settings, {"beat": 0}, ValueError, "beat must be more than 0 seconds, not 0"),
        (Settings, {"beat": -1.5}, ValueError, "beat must be more than 0"),
        (Settings, {"beat": float("nan")}, ValueError, "beat must be more than 0"),
        (Settings, {"beat": "5"}, TypeError, "beat must be a number of seconds, not '5'"),
        (Settings, {"beat": True}, TypeError, "beat must be a number"),
        (Settings, {"buffer": 0}, ValueError, "buffer must be at least 1, not 0"),
        (Settings, {"buffer": 1.5}, TypeError, "buffer must be a whole number"),
        (Settings, {"stream_length": -1}, ValueError, "stream_length must be at least 1"),
        (Settings, {"name": 3}, TypeError, "name must be a string"),
        (Settings, {"name": ""}, ValueError, "name must not be empty"),
        (None, {"beat": 0}, ValueError, "beat"),
    ],
)
def test_a_wrong_use_is_told_in_one_line(
    settings: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        instrument(settings, **options)
    assert "\n" not in str(raised.value)


def test_a_class_that_cannot_be_made_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class Final:
        functions = [add]  # noqa: RUF012

        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    assert instrument(Final) is Final
    assert [(record.name, record.levelname) for record in caplog.records] == [("taskqueue_hooks", "WARNING")]
    assert "final" in caplog.text


# -- overrides --------------------------------------------------------------------------------------------------


async def test_what_a_worker_is_made_with_overrides_the_settings(stage: Stage) -> None:
    settings = instrument({"functions": [add], "queue_name": "arq:planned", "max_jobs": 3})

    async def seen(ctx: dict[Any, Any]) -> None:
        stage.log.append(await stage.until(stage.hash))

    await stage.run(settings, "add", queue_name="arq:other", max_jobs=7, after_job_end=seen)
    (told,) = stage.log
    assert (told["queue"], told["slots"]) == ("arq:other", "7")
    assert stage.outcomes("arq:other") == [("add", "succeeded", "")]
    assert stage.outcomes("arq:planned") == stage.outcomes(QUEUE) == []


@pytest.mark.usefixtures("all_is_well")
async def test_functions_that_a_worker_is_made_with_are_seen(stage: Stage) -> None:
    await stage.run(instrument({"functions": [add]}), "tidy", functions=[tidy])
    assert stage.outcomes() == [("tidy", "succeeded", "")]
