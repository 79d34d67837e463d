"""Workers that answer as kombu has them answer: on a real Redis, without a process each."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kombu
from kombu.pidbox import Mailbox, Node

from tests.servers import RedisServer, wait_until

Answers = dict[str, Any]
"""By method."""
QUIET: Answers = {
    "active_queues": [{"name": "celery"}],
    "stats": {"pid": 7, "pool": {"max-concurrency": 4}},
    "registered": ["mail"],
    "reserved": [],
    "active": [],
    "enable_events": {"ok": "task events enabled"},
}


class NotingNode(Node):  # type: ignore[misc]
    """One worker's end of the mailbox."""

    asked: list[str]

    def handle(self, method: str, arguments: Any = None) -> Any:
        self.asked.append(method)
        return super().handle(method, arguments)


@contextmanager
def answering(
    server: RedisServer,
    answers: Mapping[str, Answers],
    *,
    db: int = 0,
    serializer: str = "json",
    accept: tuple[str, ...] = ("json",),
    **transport_options: Any,
) -> Iterator[dict[str, list[str]]]:
    """Workers by name, with what they answer; a method that one has no answer to is not answered. Gives what each was
    asked."""
    asked: dict[str, list[str]] = {name: [] for name in answers}
    before = _listening(server)
    with kombu.Connection(server.url(db), transport_options=transport_options) as connection:
        channels = []
        for name, own in answers.items():
            mailbox = Mailbox("celery", type="fanout", serializer=serializer, accept=[*accept])(connection)
            handlers = {method: _handler(answer) for method, answer in own.items()}
            node = NotingNode(name, channel=connection.channel(), handlers=handlers, mailbox=mailbox)
            node.asked = asked[name]
            consumer = node.listen(callback=_guarded(node))
            channels.append((node.channel, consumer))
        with _draining(connection):
            wait_until(lambda: _listening(server) >= before + len(answers))
            yield asked


def _listening(server: RedisServer) -> int:
    """How many listen to channels, whichever."""
    with server.client() as client:
        return sum(int(one["sub"]) + int(one["psub"]) for one in client.client_list())


def _handler(answer: object) -> Callable[..., object]:
    return lambda state, **arguments: answer() if callable(answer) else answer


def _guarded(node: NotingNode) -> Callable[[Any, Any], None]:
    """A worker lets a command that it does not know go unanswered (celery's `worker/pidbox.py`)."""

    def receive(body: Any, message: Any) -> None:
        method = body["method"]
        if method in node.handlers:
            node.handle_message(body, message)
        else:
            node.asked.append(method)

    return receive


@contextmanager
def _draining(connection: kombu.Connection) -> Iterator[None]:
    """Has the workers listen until the end of the block."""
    over = threading.Event()

    def drain() -> None:
        while not over.is_set():
            try:
                connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def as_json(answer: object) -> bytes:
    """An answer, as the mailbox hands it on."""
    return json.dumps(answer).encode()
