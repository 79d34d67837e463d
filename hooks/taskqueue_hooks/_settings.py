"""What `instrument` makes of a worker's settings. The user's objects are copied, never changed."""

from __future__ import annotations

import functools
from typing import Any, Awaitable, Callable, Mapping

from ._guard import safely, safely_await
from ._jobs import MARK
from ._lifetime import start, stop
from ._options import Options

Hook = Callable[[Any], Awaitable[Any]]

NOT_COPIED = frozenset({"__dict__", "__weakref__", "__slots__"})
"""What Python makes anew for each class."""


def instrumented(settings: Any, options: Options) -> Any:
    """A class like a settings class, or a dict like a dict, for workers that report."""
    if isinstance(settings, dict):
        return {**settings, **changes(settings, options)}
    # arq reads the class's own `__dict__` and nothing inherited (arq/worker.py, get_kwargs): neither more nor less.
    own = {name: value for name, value in vars(settings).items() if name not in NOT_COPIED}
    names = {"__qualname__": settings.__qualname__}
    return type(settings)(settings.__name__, (settings,), {**own, **names, **changes(own, options)})


def changes(settings: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The settings that are not the user's any more. The jobs are: the worker's own are instrumented when it starts."""
    return {
        "on_startup": starting(settings.get("on_startup"), options),
        "on_shutdown": stopping(settings.get("on_shutdown")),
    }


def starting(users: Hook | None, options: Options) -> Hook:
    """The user's `on_startup`, and then ours: a worker whose own fails never started."""
    if users is not None and is_ours(users):
        return users

    async def on_startup(ctx: dict[Any, Any]) -> None:
        if users is not None:
            await users(ctx)
        safely(start, ctx, options)

    return like(users, on_startup)


def stopping(users: Hook | None) -> Hook:
    """Our goodbye, and then the user's `on_shutdown`: that may take long, or fail."""
    if users is not None and is_ours(users):
        return users

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        await safely_await(stop, ctx)
        if users is not None:
            await users(ctx)

    return like(users, on_shutdown)


def like(users: Hook | None, ours: Hook) -> Hook:
    """Our hook with the name and the signature of the user's."""
    if users is not None:
        functools.update_wrapper(ours, users)
    setattr(ours, MARK, True)
    return ours


def is_ours(hook: Hook) -> bool:
    return getattr(hook, MARK, False) is True
