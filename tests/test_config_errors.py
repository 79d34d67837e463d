"""Bad configuration: one line that says file, path, found and wanted, and shows no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config import ConfigError, load
from tests.canary import CANARY, QUOTED, holds_canary
from tests.test_config import GOOD, loaded


def outcome(tmp_path: Path, text: str | bytes, **arguments: Any) -> str:
    """The error of a configuration, or all of it where it is good."""
    try:
        return repr(loaded(tmp_path, text, **arguments))
    except ConfigError as error:
        return str(error)


def is_one_line(text: str) -> bool:
    return text.isprintable() and len(text) < 2000


def refused(tmp_path: Path, text: str | bytes, **arguments: Any) -> str:
    """The error of a bad configuration, without the file's name."""
    message = outcome(tmp_path, text, **arguments)
    assert is_one_line(message)
    assert message.startswith(f"{tmp_path / 'config.yml'}: ")
    return message.removeprefix(f"{tmp_path / 'config.yml'}: ")


ONE = "brokers: [{name: a, url: redis://h%s}]"
TLS = "brokers: [{name: a, url: rediss://h, tls: %s}]"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD: list[tuple[str, str | bytes, str]] = [
    ("unknown key", "hosts: {}", "found the unknown key 'hosts', wanted one of brokers, limits, histograms, host"),
    (
        "unknown key of a broker",
        ONE % ", password: x",
        "brokers[0]: found the unknown key 'password', wanted one of na",
    ),
    ("unknown key of a system", ONE % ", arq: {speed: 1}", "brokers[0].arq: found the unknown key 'speed', wanted one"),
    (
        "unknown key of a collector",
        ONE % ", redis: {x: 1}",
        "brokers[0].redis: found the unknown key 'x', wanted one of e",
    ),
    ("unknown key of the host", "host: {cpu: 1}", "host: found the unknown key 'cpu', wanted one of enabled"),
    ("unknown limit", "limits: {tasks: 1}", "limits: found the unknown key 'tasks', wanted one of task_queues, queues"),
    (
        "buckets that fall",
        "histograms: {run_seconds: [1, 5, 2]}",
        "histograms.run_seconds: found [1.0, 5.0, 2.0], wanted 1 to 60 rising numbers",
    ),
    (
        "a bucket of zero",
        "histograms: {wait_seconds: [0, 1]}",
        "histograms.wait_seconds: found [0.0, 1.0], wanted 1 to",
    ),
    ("no bucket", "histograms: {wait_seconds: []}", "histograms.wait_seconds: found [], wanted 1 to 60 rising numbers"),
    ("an endless bucket", "histograms: {run_seconds: [1, .inf]}", "histograms.run_seconds: found [1.0, inf], wanted 1"),
    ("no bucket at all", "histograms: {run_seconds: 5}", "histograms.run_seconds: found 5 (an integer), wanted a list"),
    (
        "an unknown histogram",
        "histograms: {size: [1]}",
        "histograms: found the unknown key 'size', wanted one of wait_",
    ),
    ("brokers as text", "brokers: main", "brokers: found 'main' (a string), wanted a list"),
    ("brokers as a mapping", "brokers: {main: {}}", "brokers: found a mapping, wanted a list"),
    ("brokers of nothing", "brokers:", "brokers: found None (nothing), wanted a list"),
    ("broker as text", "brokers: [main]", "brokers[0]: found 'main' (a string), wanted a mapping"),
    ("a broker without a name", "brokers: [{url: redis://h}]", "brokers[0]: found no key 'name', wanted one"),
    (
        "a name of a number",
        "brokers: [{name: 1, url: redis://h}]",
        "brokers[0].name: found 1 (an integer), wanted a str",
    ),
    (
        "a bad name",
        "brokers: [{name: a b, url: redis://h}]",
        "brokers[0].name: found 'a b' (a string), wanted a string ma",
    ),
    (
        "a name and a new line",
        'brokers: [{name: "a\\n", url: redis://h}]',
        "brokers[0].name: found 'a\\n' (a string), wa",
    ),
    (
        "a name twice",
        "brokers: [{name: a, url: redis://h}, {name: a, url: redis://i}]",
        "brokers[1].name: found 'a' a se",
    ),
    (
        "neither url nor file",
        "brokers: [{name: a}]",
        "brokers[0]: found neither url nor url_file, wanted one of the two",
    ),
    ("both url and file", ONE % ", url_file: x", "brokers[0]: found url and url_file, wanted one of the two"),
    ("a url of a number", "brokers: [{name: a, url: 7}]", "brokers[0].url: found an integer, wanted a string"),
    ("no url", "brokers: [{name: a, url: h}]", "brokers[0].url: found no URL, wanted redis://"),
    (
        "a url of HTTP",
        "brokers: [{name: a, url: 'http://h'}]",
        "brokers[0].url: found a URL of scheme 'http', wanted redi",
    ),
    ("a bad port", "brokers: [{name: a, url: 'redis://h:99999'}]", "brokers[0].url: found a URL that cannot be read ("),
    ("a bad database", "brokers: [{name: a, url: redis://h/x}]", "brokers[0].url: found "),
    (
        "a url file that is not there",
        "brokers: [{name: a, url_file: /no}]",
        "brokers[0].url_file: found no file that can",
    ),
    (
        "a password directory",
        ONE % ", password_file: /tmp",
        "brokers[0].password_file: found no file that can be read (Is",
    ),
    (
        "an empty password file",
        ONE % ", password_file: /dev/null",
        "brokers[0].password_file: found a file of 0 lines, wa",
    ),
    (
        "an endless password file",
        ONE % ", password_file: /dev/zero",
        "brokers[0].password_file: found more than 1048576 c",
    ),
    ("a null byte in a name", ONE % ', password_file: "a\\0"', "brokers[0].password_file: found "),
    ("TLS without TLS", ONE % ", tls: {}", "brokers[0].url: found redis:// beside tls, wanted rediss://"),
    ("TLS as a switch", TLS % "true", "brokers[0].tls: found True (a boolean), wanted a mapping"),
    ("an unknown key of TLS", TLS % "{ca: x}", "brokers[0].tls: found the unknown key 'ca', wanted one of ca_file, ce"),
    ("a certificate of a number", TLS % "{ca_file: 1}", "brokers[0].tls.ca_file: found 1 (an integer), wanted a str"),
    ("a name of a list", TLS % "{server_name: [a]}", "brokers[0].tls.server_name: found a list, wanted a string"),
    (
        "a switch of text",
        TLS % "{insecure_skip_verify: 'no'}",
        "brokers[0].tls.insecure_skip_verify: found 'no' (a string), wanted a boolean",
    ),
    ("no file of certificates", TLS % "{ca_file: /no}", "brokers[0].tls.ca_file: found no file that can be read (No "),
    ("no certificate in it", TLS % "{ca_file: /dev/null}", "brokers[0].tls.ca_file: found no certificate ("),
    ("a key alone", TLS % "{key_file: /dev/null}", "brokers[0].tls.cert_file: found none beside a key_file, wanted bo"),
    (
        "TLS twice",
        "brokers: [{name: a, url: 'rediss://h?ssl_check_hostname=false', tls: {}}]",
        "brokers[0].url: found ssl_check_hostname in the URL beside tls, wanted one of the two",
    ),
    ("a sentinel as text", ONE % ", sentinel: s1", "brokers[0].sentinel: found 's1' (a string), wanted a mapping"),
    ("sentinels of nobody", ONE % ", sentinel: {}", "brokers[0].sentinel: found no key 'addresses', wanted one"),
    ("no sentinel", ONE % ", sentinel: {addresses: []}", "brokers[0].sentinel.addresses: found a list, wanted a list "),
    ("not a list", ONE % ", sentinel: {addresses: s}", "brokers[0].sentinel.addresses: found a string, wanted a list"),
    (
        "a sentinel of a number",
        ONE % ", sentinel: {addresses: [s, 26379]}",
        "brokers[0].sentinel.addresses[1]: found an integer, wanted a string",
    ),
    (
        "an unknown key of a sentinel",
        ONE % ", sentinel: {addresses: [s], password: x}",
        "brokers[0].sentinel: found the unknown key 'password', wanted one of addresses, username, password_file, tls",
    ),
    (
        "an unknown key of a sentinel's TLS",
        ONE % ", sentinel: {addresses: [s], tls: {ca: x}}",
        "brokers[0].sentinel.tls: found the unknown key 'ca', wanted one of ca_file, cert_file, key_file, server_name",
    ),
    (
        "a sentinel's certificate",
        ONE % ", sentinel: {addresses: [s], tls: {ca_file: /no}}",
        "brokers[0].sentinel.tls.ca_file: found no file that can be read (No such file or directory)",
    ),
    (
        "a sentinel's password",
        ONE % ", sentinel: {addresses: [s], password_file: /no}",
        "brokers[0].sentinel.password_file: found no file that can be read (No such file or directory), wanted one",
    ),
    (
        "a sentinel twice",
        ONE % ", sentinel: {addresses: [s, 's:26379']}",
        "brokers[0].sentinel.addresses: found a sentinel a second time, wanted each once",
    ),
    (
        "a URL of a sentinel",
        ONE % ", sentinel: {addresses: ['redis://s']}",
        "brokers[0].sentinel.addresses: found 'redis://***', wanted host:port",
    ),
    (
        "a master with a port",
        "brokers: [{name: a, url: 'redis://m:6379', sentinel: {addresses: [s]}}]",
        "brokers[0].url: found a port beside sentinel, wanted the name of the master alone as the host",
    ),
    (
        "a master of a name that is none",
        "brokers: [{name: a, url: 'redis://m%20n', sentinel: {addresses: [s]}}]",
        "brokers[0].url: found the host 'm n', wanted the name of a master: letters, digits, .-_",
    ),
    (
        "a master without a name",
        "brokers: [{name: a, url: 'redis://u@/0', sentinel: {addresses: [s]}}]",
        "brokers[0].url: found no host beside sentinel, wanted the name of the master as the host",
    ),
    (
        "a master at a socket",
        "brokers: [{name: a, url: 'unix:///run/redis', sentinel: {addresses: [s]}}]",
        "brokers[0].url: found a unix socket beside sentinel, wanted the name of the master as the host",
    ),
    ("probe as a number", ONE % ", probe: 1", "brokers[0].probe: found 1 (an integer), wanted a boolean"),
    ("queues as text", ONE % ", arq: {queues: q}", "brokers[0].arq.queues: found 'q' (a string), wanted a list"),
    ("a queue of a number", ONE % ", arq: {queues: [a, 1]}", "brokers[0].arq.queues[1]: found 1 (an integer), wanted"),
    (
        "discover as text",
        ONE % ", celery: {discover: 'no'}",
        "brokers[0].celery.discover: found 'no' (a string), wanted a",
    ),
    (
        "content that runs what it is read by",
        ONE % ", celery: {accept_content: [json, pickle]}",
        "brokers[0].celery.accept_content: found 'pickle', which is never opened, wanted some of json, msgpack",
    ),
    (
        "content nobody knows",
        ONE % ", celery: {accept_content: [bson]}",
        "brokers[0].celery.accept_content: found 'bson', wanted some of json, msgpack",
    ),
    ("no content", ONE % ", celery: {accept_content: []}", "brokers[0].celery.accept_content: found "),
    ("a limit of 0", "limits: {queues: 0}", "limits.queues: found 0 (an integer), wanted an integer >= 1"),
    ("a limit of text", "limits: {queues: many}", "limits.queues: found 'many' (a string), wanted an integer"),
    (
        "labels too short",
        "limits: {label_bytes: 8}",
        "limits.label_bytes: found 8 (an integer), wanted an integer >= 32",
    ),
    ("enabled as a number", "host: {enabled: 1}", "host.enabled: found 1 (an integer), wanted a boolean"),
    (
        "no broker",
        "host: {}",
        "brokers: found no broker, wanted TASKQUEUE_EXPORTER_REDIS_URL=redis://... or `brokers:` in",
    ),
    ("an empty file", "", "brokers: found no broker, wanted"),
    ("a list", "- a", "found a list, wanted a mapping"),
    ("a word", "main", "found a string, wanted a mapping"),
    ("bad YAML", "a: b: c", "line 1: found no YAML (mapping values are not allowed here), wanted YAML"),
    ("an open bracket", "a:\n  [b", "line 2: found no YAML ("),
    ("a tab", "a:\n\tb: 1", "line 2: found no YAML ("),
    ("two documents", "a: 1\n---\nb: 2", "line 2: found no YAML ("),
    ("a key twice", "host: {}\nhost: {}", "line 2: found the key 'host' a second time, wanted it once"),
    ("a key twice below", ONE % ", name: b", "line 1: found the key 'name' a second time, wanted it once"),
    ("a key that is a number", "1: 2", "line 1: found the key '1', wanted a name"),
    ("a key that is a list", "? [a]\n: 2", "line 1: found a key of many values, wanted a name"),
    ("a merge key", "host: {<<: {enabled: true}}", "line 1: found the key '<<', wanted a name"),
    ("a key that imitates an error", "{'x` - at `$.foo': 1}", "line 1: found the key "),
    (
        "a python object",
        "!!python/object/apply:os.system [true]",
        "line 1: found no YAML (could not determine a constr",
    ),
    ("a word as a boolean", "host: {enabled: !!bool x}", "found no YAML ('x'), wanted YAML"),
    ("a date that is none", "host: {enabled: 2024-99-99}", "found no YAML (month must be in 1..12"),
    ("an unknown alias", "host: *x", "line 1: found no YAML (found undefined alias 'x'), wanted YAML"),
    ("a recursive list", "brokers: &a [*a]", "found aliases that unfold to more than 1048576 values, wanted fewer"),
    ("a recursive mapping", "&a {host: *a}", "found aliases that unfold to more than 1048576 values, wanted fewer"),
    ("a bomb", BOMB, "found aliases that unfold to more than 1048576 values, wanted fewer"),
    ("deep nesting", "[" * 10_000, "found no YAML (maximum recursion depth exceeded"),
    ("binary", b"\x80\x81\x00", "found no UTF-8 text, wanted it"),
    ("a control character", "a: \x00", "found no YAML (unacceptable character #x0000"),
    ("a huge file", b"#" * (1024 * 1024 + 1), "found more than 1048576 characters, wanted fewer"),
]


@pytest.mark.parametrize(("text", "error"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_an_error_is_one_line_with_path_found_and_wanted(text: str | bytes, error: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text).startswith(error)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("missing.yml", "found no file that can be read (No such file or directory), wanted one"),
        ("", "found no file that can be read (Is a directory), wanted one"),
        ("a\0b", "found no UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*: " + error.replace("(", r"\(").replace(")", r"\)")):
        load(tmp_path / name)


def test_no_file_and_no_url() -> None:
    with pytest.raises(ConfigError, match=r"^found no broker, wanted TASKQUEUE_EXPORTER_REDIS_URL="):
        load(None)


def test_a_url_beside_brokers(tmp_path: Path) -> None:
    assert refused(tmp_path, GOOD, redis_url="redis://h").startswith("brokers: found 1 beside TASKQUEUE_EXPORTER_REDIS")


MISTAKES = [
    "brokers: redis://:{}@h",
    "brokers: ['redis://:{}@h']",
    "redis://:{}@h: 1",
    "brokers: [{{name: 'redis://:{}@h', url: redis://h}}]",
    "brokers: [{{name: a, url: ['redis://:{}@h']}}]",
    "brokers: [{{name: a, url: 'redis://:{}@h:x'}}]",
    "brokers: [{{name: a, url: 'redis://:{}@h/x'}}]",
    "brokers: [{{name: a, url: 'amqp://:{}@h'}}]",
    "brokers: [{{name: a, url: ':{}@h'}}]",
    "brokers: [{{name: a, url_file: 'redis://:{}@h'}}]",
    "brokers: [{{name: a, url: redis://h, password_file: '{}'}}]",
    "brokers: [{{name: a, url: redis://h, password: '{}'}}]",
    "brokers: [{{name: a, url: redis://h, arq: 'redis://:{}@h'}}]",
    "limits: 'redis://:{}@h'",
    "brokers: [{{name: a, url: 'redis://:{}@h:1', sentinel: {{addresses: [s]}}}}]",
    "brokers: [{{name: a, url: redis://m, sentinel: {{addresses: [':{}@s:1']}}}}]",
    "brokers: [{{name: a, url: redis://m, sentinel: {{addresses: 'u:{}@s:1'}}}}]",
    "brokers: [{{name: a, url: redis://m, sentinel: {{addresses: ['redis://:{}@s:1']}}}}]",
    "brokers: [{{name: a, url: redis://m, sentinel: 'redis://:{}@s:1'}}]",
    "brokers: [{{name: a, url: redis://m, sentinel: {{addresses: [s], password_file: '{}'}}}}]",
]


@pytest.mark.parametrize(
    "text", ["s:x", "s:0", "s:70000", "s:", ":1", "", "::1", "::1:26379", "[::1", "s/0", "s 1", "[s]:1x"]
)
def test_what_is_no_sentinel(text: str, tmp_path: Path) -> None:
    told = refused(tmp_path, ONE % f", sentinel: {{addresses: ['{text}']}}")
    assert told == f"brokers[0].sentinel.addresses: found {text!r}, wanted host:port, an IPv6 address in brackets"


@pytest.mark.parametrize("secret", [QUOTED, CANARY], ids=["quoted", "as it is"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_error_shows_a_password(mistake: str, secret: str, tmp_path: Path) -> None:
    # A password that stands in the URL unquoted may still be something to redis-py.
    assert not holds_canary(outcome(tmp_path, mistake.format(secret)))


# -- whatever a file holds --------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        "brokers",
        "name",
        "url",
        "url_file",
        "arq",
        "celery",
        "redis",
        "host",
        "filesystem",
        "limits",
        "queues",
        "enabled",
        "tls",
        "sentinel",
        "addresses",
        "password_file",
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=4),
    st.just("redis://h"),
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5) | st.integers(), inner, max_size=5)
    ),
    max_leaves=12,
)
QUIET = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(document=DOCUMENTS | st.dictionaries(KEYS, DOCUMENTS))
def test_any_document_loads_or_is_refused_in_one_line(document: object, tmp_path: Path) -> None:
    assert is_one_line(outcome(tmp_path, yaml.safe_dump(document, allow_unicode=True)))


@QUIET
@given(text=st.text() | st.binary())
def test_any_bytes_load_or_are_refused_in_one_line(text: str | bytes, tmp_path: Path) -> None:
    assert is_one_line(outcome(tmp_path, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")))
