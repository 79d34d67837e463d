"""One line for ARQ workers that tells taskqueue-exporter what their Redis cannot know. See README.md."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, TypeVar, Union, overload

from ._guard import safely
from ._jobs import report
from ._options import Options
from ._settings import instrumented
from ._version import __version__

__all__ = ["__version__", "instrument", "progress"]

Class = TypeVar("Class", bound=type)
Settings = TypeVar("Settings", bound=Union[type, Dict[str, Any]])


@overload
def instrument(
    settings: Class, *, name: str | None = ..., beat: float = ..., buffer: int = ..., stream_length: int = ...
) -> Class: ...


@overload
def instrument(
    settings: dict[str, Any], *, name: str | None = ..., beat: float = ..., buffer: int = ..., stream_length: int = ...
) -> dict[str, Any]: ...


@overload
def instrument(
    settings: None = None, *, name: str | None = ..., beat: float = ..., buffer: int = ..., stream_length: int = ...
) -> Callable[[Settings], Settings]: ...


def instrument(
    settings: Any = None,
    *,
    name: str | None = None,
    beat: float = 5.0,
    buffer: int = 10_000,
    stream_length: int = 20_000,
) -> Any:
    """Settings like these, for workers that report what they do.

    `settings` is a settings class (also by `@instrument` or `@instrument(beat=2)`) or a dict of a Worker's keyword
    arguments: `Worker(**instrument(dict(functions=[…])))`. It is left as it is.

    `name` is what the worker is called (host name and process id unless given), `beat` the seconds between two signs of
    life, `buffer` how many ended jobs are kept while Redis is away, `stream_length` how many it keeps for each queue.

    TypeError or ValueError for what it cannot take. Whatever else may fail is logged, and `settings` returned.
    """
    options = Options(name, beat, buffer, stream_length)
    if settings is None:
        return functools.partial(_instrument, options=options)
    return _instrument(settings, options)


def _instrument(settings: Any, options: Options) -> Any:
    if not isinstance(settings, (type, dict)):
        raise TypeError(f"instrument(): settings must be a class or a dict, not {settings!r}")
    made = safely(instrumented, settings, options)
    return settings if made is None else made


def progress(ctx: Any, done: float, total: float | None = None, message: str = "") -> None:
    """Tell how far a running job is: `progress(ctx, 3, 10, "sending")`, with the `ctx` that the job was given.

    It is noted now and written with the next beat. It never raises, and does nothing in a worker that is not
    instrumented. `done` and `total` must be finite numbers; of `message` 200 characters count.
    """
    safely(report, ctx, done, total, message)
