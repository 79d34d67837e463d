"""Secrets do not print, and URLs that were typed are not repeated."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.brokers.address import parse_address
from exporter.safe.secrets import Secret, SecretError, SecretUrlFile, hide_urls
from tests.canary import CANARY, QUOTED, holds_canary

SECRET = Secret(CANARY)


@dataclass
class Holder:
    password: Secret


@pytest.mark.parametrize(
    "shown",
    [
        str(SECRET),
        repr(SECRET),
        f"{SECRET} {SECRET!r} {SECRET!s} {SECRET:}",
        "%s %r" % (SECRET, SECRET),  # noqa: UP031  the old way prints, too
        str([SECRET]) + str({"password": SECRET}),
        repr(Holder(SECRET)),
        ascii(SECRET),
        logging.makeLogRecord({"msg": "%s", "args": (SECRET,)}).getMessage(),
        str(ValueError(SECRET)),
    ],
)
def test_printing_shows_asterisks(shown: str) -> None:
    assert "***" in shown
    assert not holds_canary(shown)


@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode, vars])
def test_it_cannot_be_encoded_by_accident(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(TypeError):
        encode(SECRET)


def test_it_gives_the_value_when_asked() -> None:
    assert SECRET.reveal() == CANARY


def test_equal_secrets_are_equal() -> None:
    assert Secret(CANARY) == SECRET
    assert hash(SECRET) == hash(Secret(CANARY))
    assert Secret("other") != SECRET
    assert SECRET != CANARY


def test_its_type_survives_a_copy() -> None:
    assert pickle.loads(pickle.dumps(Holder(SECRET))) == Holder(SECRET)


@pytest.mark.parametrize("secret", [CANARY, QUOTED, "a b", "a\nb", ""])
def test_what_was_typed_as_a_url_is_hidden(secret: str) -> None:
    assert hide_urls(f"No such command 'redis://:{secret}@h'.") == "No such command 'redis://***"


@given(before=st.text(st.characters(exclude_characters=":"), max_size=10), secret=st.text(min_size=1))
def test_nothing_behind_the_slashes_is_left(before: str, secret: str) -> None:
    assert hide_urls(f"{before}://{secret}") == f"{before}://***"


def test_other_text_is_left_alone() -> None:
    assert hide_urls("found 7: wanted a/b at [::1]:80") == "found 7: wanted a/b at [::1]:80"


@pytest.mark.parametrize(
    "url", [f"redis://:{QUOTED}@h", f"redis://u:{QUOTED}@h/1", f"unix://u:{QUOTED}@/p", f"redis://h?password={QUOTED}"]
)
def test_the_password_of_a_url_in_a_file_is_that_of_the_url(url: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{url}\n")
    assert Secret(SecretUrlFile(str(tmp_path / "url")).reveal()) == parse_address(url).password


@pytest.mark.parametrize("text", ["redis://h", "redis://[h", "", "a\nb", "redis://:@h"])
def test_a_file_without_a_url_with_a_password(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c4nary"
    file.write_text(text)
    with pytest.raises(SecretError, match=r"^url_file: found ") as caught:
        SecretUrlFile(str(file), "url_file").reveal()
    assert "c4nary" not in str(caught.value)
