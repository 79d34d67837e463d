"""What Alertmanager's receivers are sent: the project's templates, by the examples in its configuration."""

from __future__ import annotations

import email
import email.policy
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scripts.rulebook import PROMETHEUS
from tests.alertmanager import Alertmanager, Webhook, with_examples
from tests.servers import LOOPBACK, wait_until

GRAFANA: Final = "https://grafana.example.org/sub"
RUNBOOK: Final = "https://github.com/taskqueue-exporter/taskqueue-exporter/blob/main/docs/runbooks/QueueBacklog.md"
GENERATOR: Final = "http://prometheus:9090/graph?g0.expr=up+%3C+1&g0.tab=1"
HOSTILE: Final = '<!channel> & <script>alert("1")</script>\nBcc: all@example.org'
IN_URL: Final = "%3C%21channel%3E+%26+%3Cscript%3E"

pytestmark = pytest.mark.needs("prometheus-alertmanager")
_ANSWERS: Final = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}


class Mailbox:
    """A mail server on the loopback that takes everything; whoever starts it stops it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._socket = socket.create_server((LOOPBACK, 0))
        self.address = f"{LOOPBACK}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # stopped
                return
            with connection, connection.makefile("rb") as lines, suppress(ConnectionError):
                self._talk(connection, lines)

    def _talk(self, connection: socket.socket, lines: Iterable[bytes]) -> None:
        content: list[bytes] | None = None
        connection.sendall(b"220 here\r\n")
        for line in lines:
            if content is not None and line != b".\r\n":
                content.append(line)
                continue
            if content is not None:
                self.mails.append(email.message_from_bytes(b"".join(content), policy=email.policy.default))
                content = None
            elif line.startswith(b"DATA"):
                content = []
            connection.sendall(_ANSWERS.get(line[:4], b"250 good\r\n"))


class Page(HTMLParser):
    """The tags and links of an HTML page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name == "href"]


class Sent:
    """An Alertmanager with the examples in force, and what it sent so far."""

    def __init__(self, directory: Path) -> None:
        templates = (PROMETHEUS / "templates" / "taskqueue.tmpl").read_text()
        (directory / "templates").mkdir()
        (directory / "templates" / "taskqueue.tmpl").write_text(templates.replace("http://localhost:3000", GRAFANA))
        self.webhook, self.mailbox = Webhook(), Mailbox()
        self.alertmanager = Alertmanager(directory, self._config())

    def stop(self) -> None:
        self.alertmanager.stop()
        self.webhook.stop()
        self.mailbox.stop()

    def to(self, path: str) -> list[dict[str, Any]]:
        """What went to a path of the webhook."""
        return [body for body in list(self.webhook.received) if body["path"] == path]

    def slack(self, name: str, number: int = 0) -> dict[str, str]:
        """The n-th message about alerts of a name."""
        self.webhook.wait_for(lambda: len(self._slack(name)) > number)
        return self._slack(name)[number]

    def mail(self, name: str, number: int = 0) -> EmailMessage:
        """The n-th mail about alerts of a name."""
        wait_until(lambda: len(self._mails(name)) > number)
        return self._mails(name)[number]

    def page(self, name: str, number: int = 0) -> dict[str, Any]:
        """The n-th call of the pager about alerts of a name."""
        self.webhook.wait_for(lambda: len(self._pages(name)) > number)
        return self._pages(name)[number]

    def _slack(self, name: str) -> list[dict[str, str]]:
        return [body["attachments"][0] for body in self.to("/slack") if f"] {name} " in body["attachments"][0]["title"]]

    def _mails(self, name: str) -> list[EmailMessage]:
        return [mail for mail in list(self.mailbox.mails) if f"] {name} " in mail["Subject"]]

    def _pages(self, name: str) -> list[dict[str, Any]]:
        return [body for body in self.to("/pagerduty") if f"] {name} " in body.get("payload", {}).get("summary", "")]

    def _config(self) -> str:
        """The example receivers with addresses of this machine, and intervals that a test can wait for."""
        config = yaml.safe_load(with_examples((PROMETHEUS / "alertmanager.yml").read_text()))
        config["global"] = {
            "smtp_smarthost": self.mailbox.address,
            "smtp_from": "a@example.org",
            "smtp_require_tls": False,
        }
        pager, chat, _, dead_man = config["receivers"]
        _aimed(
            pager["pagerduty_configs"][0], "routing_key_file", routing_key="key", url=f"{self.webhook.url}/pagerduty"
        )
        _aimed(chat["slack_configs"][0], "api_url_file", api_url=f"{self.webhook.url}/slack")
        _aimed(dead_man["webhook_configs"][0], "url", url=f"{self.webhook.url}/dead-man")
        for route in [config["route"], *config["route"]["routes"]]:
            route |= {"group_wait": "300ms", "group_interval": "1s"}
        for route in config["route"]["routes"]:
            if route["receiver"] == "dead-man":
                route["repeat_interval"] = "900ms"
        return yaml.safe_dump(config)


def _aimed(receiver: dict[str, Any], taken: str, **given: str) -> None:
    del receiver[taken]
    receiver |= given


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    everything = Sent(tmp_path_factory.mktemp("alertmanager"))
    yield everything
    everything.stop()


def alert(name: str, queue: str = "emails", severity: str = "warning", **more: str) -> dict[str, Any]:
    """An alert as the rules make it."""
    dashboard = f"http://localhost:3000/d/tq-system?var-job=taskqueue&var-queue={IN_URL}"
    return {
        "labels": {"alertname": name, "severity": severity, "system": "celery", "queue": "q", "task": queue},
        "annotations": {
            "summary": f"Jobs wait in {queue}",
            "description": f"Too many: {queue}.",
            "runbook_url": RUNBOOK,
            "dashboard_url": dashboard,
        },
        "generatorURL": GENERATOR,
        "startsAt": now(),
    } | more


def now() -> str:
    """As alerts have it. One that began long ago would not wait for the others of its group."""
    return datetime.now(UTC).isoformat()


def shown(moment: str) -> str:
    """As notifications have it."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def test_slack_shows_what_fires_and_what_is_resolved(sent: Sent) -> None:
    since = now()
    sent.alertmanager.post([alert("Chat", "a", startsAt=since), alert("Chat", "b", startsAt=since)])
    first = sent.slack("Chat")
    end = now()
    sent.alertmanager.post([alert("Chat", "b", startsAt=since, endsAt=end)])
    second = sent.slack("Chat", 1)

    links = f"<{RUNBOOK}|Runbook> · <{GRAFANA}/d/tq-system?var-job=taskqueue&amp;var-queue={IN_URL}|Dashboard>"
    fires = (
        "• Jobs wait in {0}\nToo many: {0}.\n"
        f"warning, since {shown(since)} · {links} · <{GENERATOR.replace('&', '&amp;')}|Prometheus>\n"
    )
    assert first["title"] == first["fallback"] == "[FIRING:2] Chat celery q (warning)"
    assert first["text"].strip() == ("*Firing*\n" + fires.format("a") + fires.format("b")).strip()
    assert second["title"] == "[FIRING:1] Chat celery q (warning)"
    over = f"*Resolved*\n• Jobs wait in b\nfrom {shown(since)} to {shown(end)}"
    assert second["text"].strip() == "*Firing*\n" + fires.format("a") + over


def test_mail_shows_what_fires_and_what_is_resolved(sent: Sent) -> None:
    a, b = alert("Mail", "a"), alert("Mail", "b")
    sent.alertmanager.post([a, b])
    sent.mail("Mail")
    sent.alertmanager.post([b | {"endsAt": now()}])
    mail = sent.mail("Mail", 1)

    assert mail["Subject"] == "[FIRING:1] Mail celery q (warning)"
    plain, html = (part.get_content() for part in mail.iter_parts())
    dashboard = f"{GRAFANA}/d/tq-system?var-job=taskqueue&var-queue={IN_URL}"
    for line in (f"  Runbook: {RUNBOOK}", f"  Dashboard: {dashboard}", f"  Prometheus: {GENERATOR}"):
        assert line in plain.splitlines()
    assert plain.index("Firing:") < plain.index("Jobs wait in a") < plain.index("Resolved:") < plain.index("in b")
    assert Page(html).links[:3] == [RUNBOOK, dashboard, GENERATOR]
    assert html.index("Firing<") < html.index("Jobs wait in a") < html.index("Resolved<") < html.index("in b")


def test_a_pager_is_told_what_fires(sent: Sent) -> None:
    sent.alertmanager.post([alert("Page", "a", "critical")])
    call = sent.page("Page")

    assert call["payload"]["summary"] == "[FIRING:1] Page celery q a (critical)"
    assert call["payload"]["severity"] == "critical"
    assert f"  Runbook: {RUNBOOK}" in call["payload"]["custom_details"]["firing"].splitlines()
    assert call["client_url"] == f"{sent.alertmanager.url}/#/alerts?receiver=pager"


def test_names_that_are_chosen_badly_do_nothing(sent: Sent) -> None:
    sent.alertmanager.post([alert("Hostile", HOSTILE)])
    slack, mail = sent.slack("Hostile"), sent.mail("Hostile")

    seen = '&lt;!channel&gt; &amp; &lt;script&gt;alert("1")&lt;/script&gt; Bcc: all@example.org'
    assert slack["title"] == f"[FIRING:1] Hostile celery q {seen} (warning)"
    assert f"Jobs wait in {seen}\nToo many: {seen}.\n" in slack["text"]
    assert mail["Bcc"] is None
    assert mail["Subject"] == f"[FIRING:1] Hostile celery q {HOSTILE} (warning)".replace("\n", " ")
    html = list(mail.iter_parts())[1].get_content()
    assert "script" not in Page(html).tags
    assert "&lt;script&gt;" in html


def test_no_more_than_twenty_are_listed(sent: Sent) -> None:
    sent.alertmanager.post([alert("Many", f"t{number:02}") for number in range(25)])
    slack, mail = sent.slack("Many"), sent.mail("Many")

    contents = [part.get_content() for part in mail.iter_parts()]
    for text in (slack["text"], *contents):
        assert text.count("Jobs wait in") == 20
        assert "Of 25 alerts the first 20." in text


def test_alerts_of_others_are_shown_by_name(sent: Sent) -> None:
    since = now()
    sent.alertmanager.post([{"labels": {"alertname": "Foreign", "queue": "q"}, "startsAt": since}])
    slack = sent.slack("Foreign")

    assert slack["title"] == "[FIRING:1] Foreign q"
    assert slack["text"].strip() == f"*Firing*\n• Foreign\nno severity, since {shown(since)}"
    assert "not given" in sent.mail("Foreign").as_string()


def test_the_dead_mans_switch_is_told_again_and_again_but_not_of_an_end(sent: Sent) -> None:
    sent.alertmanager.post([{"labels": {"alertname": "Watchdog", "severity": "none"}}])
    sent.webhook.wait_for(lambda: len(sent.to("/dead-man")) >= 3)
    sent.alertmanager.post([{"labels": {"alertname": "Watchdog", "severity": "none"}, "endsAt": now()}])
    later = alert("Later", "a")
    sent.alertmanager.post([later])
    sent.slack("Later")
    sent.alertmanager.post([later | {"endsAt": now()}])
    sent.slack("Later", 1)  # by when the same was due for the watchdog

    assert {body["status"] for body in sent.to("/dead-man")} == {"firing"}


def test_what_is_only_informing_is_sent_to_nobody(sent: Sent) -> None:
    sent.alertmanager.post([alert("Info", "a", "info"), alert("Loud", "a")])
    sent.slack("Loud")

    assert not [body for body in sent.webhook.received if "Info" in str(body)]
