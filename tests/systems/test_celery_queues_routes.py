"""Which queue a message was sent to."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual.exchange import TopicExchange

from exporter.systems.celery.queues.routes import Binding, Routes, matches

WORDS = st.sampled_from(["a", "b", "mail", "*", "#", "", "x1", "ä"])


def routes(*bindings: Binding, prefix: str = "", only: str | None = None) -> Routes:
    return Routes({(prefix, "shop"): bindings}, only)


def test_the_default_exchange_leads_to_the_queue_of_that_name() -> None:
    assert Routes({}, None).queues("", "", "letters") == {"letters"}
    assert Routes({}, None).queues("app:", "", "letters") == {"app:letters"}
    assert Routes({}, "app:").queues("app:", "", "letters") == {"letters"}


def test_a_direct_exchange_goes_by_the_whole_key() -> None:
    found = routes(Binding("in", False, "inbox"), Binding("out", False, "outbox"))
    assert found.queues("", "shop", "in") == {"inbox"}


def test_a_topic_exchange_goes_by_its_patterns() -> None:
    found = routes(Binding("mail.#", True, "mails"), Binding("*.urgent", True, "urgent"))
    assert found.queues("", "shop", "mail.new") == {"mails"}
    assert found.queues("", "shop", "call.urgent") == {"urgent"}
    assert found.queues("", "shop", "mail.urgent") == {"mails", "urgent"}


def test_a_fanout_exchange_of_one_queue_leads_there_whatever_the_key() -> None:
    assert routes(Binding("", False, "news")).queues("", "shop", "celery") == {"news"}
    assert routes(Binding("", False, "a"), Binding("", False, "b")).queues("", "shop", "celery") == {"a", "b"}


def test_an_exchange_without_bindings_leads_nowhere() -> None:
    assert routes(Binding("in", False, "inbox")).queues("", "store", "in") == set()
    assert routes(Binding("in", False, "inbox")).queues("app:", "shop", "in") == set()


def test_a_queue_under_another_prefix_is_nobody_we_know() -> None:
    assert routes(Binding("in", False, "inbox"), prefix="other:", only="app:").queues("other:", "shop", "in") == set()


@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=5))
def test_topics_match_as_kombu_has_them(pattern: list[str], key: list[str]) -> None:
    binding, routing_key = ".".join(pattern), ".".join(key)
    expected = re.match(TopicExchange(None).key_to_pattern(binding), routing_key, re.UNICODE) is not None
    assert matches(binding, routing_key) == expected


def test_a_pattern_made_to_be_slow_is_not() -> None:
    began = time.perf_counter()
    assert not matches(".".join(["#", "a"] * 120), "a." * 250 + "b")
    assert time.perf_counter() - began < 1
