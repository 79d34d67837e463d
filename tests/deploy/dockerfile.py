"""What the Dockerfile says: its instructions, and what the image of a stage is set to, with what it inherits.

`image("exporter")` is what compose and the tests need. It understands what our own Dockerfile uses: comments, lines
that go on, ARG and ENV with `$NAME` and `${NAME}`; no heredocs, no other escape character, no `ENV NAME value`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.servers import ROOT

DOCKERFILE: Final = ROOT / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, its flags without `--`, the rest as it was written, on one line."""

    name: str
    text: str
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """The exec form's words, else those of the line."""
        return self.exec_form or tuple(shlex.split(self.text))

    @property
    def exec_form(self) -> tuple[str, ...] | None:
        """The words of `["a", "b"]`, None where it is written as a line for a shell."""
        try:
            words = json.loads(self.text)
        except json.JSONDecodeError:
            return None
        return tuple(words) if isinstance(words, list) else None


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands between two FROM. `base` is another stage's name or an image's, with its variables replaced."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """What the image of a stage is set to. Commands are None where nothing, or nothing in exec form, is said."""

    base: str
    """The image that its first stage is from."""
    env: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    workdir: str
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    healthcheck: tuple[str, ...] | None
    """The command, without CMD."""
    healthcheck_options: Mapping[str, str]
    expose: tuple[str, ...]
    stop_signal: str


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a Dockerfile in their order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for whole in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not whole.strip():
            continue
        name, _, rest = whole.strip().partition(" ")
        flags: dict[str, str] = {}
        while match := re.match(r"\s*--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        yield Instruction(name.upper(), re.sub(r"\s+", " ", rest).strip(), flags)


def stages(text: str | None = None, arguments: Mapping[str, str] | None = None) -> dict[str, Stage]:
    """The stages by their names. `arguments` are build arguments in place of the defaults that stand before FROM."""
    outside: dict[str, str] = {}
    parts: list[tuple[str, str, list[Instruction]]] = []
    for each in instructions(DOCKERFILE.read_text() if text is None else text):
        if each.name == "FROM":
            base, _, name = each.text.partition(" AS ")
            parts.append((name, replaced(base, outside), []))
        elif parts:
            parts[-1][2].append(each)
        else:
            outside |= argument(each, outside, arguments or {})
    return {name: Stage(name, base, tuple(inside)) for name, base, inside in parts}


def image(stage: str = "exporter", text: str | None = None, arguments: Mapping[str, str] | None = None) -> Image:
    """What the image of `stage` is set to. KeyError where the Dockerfile has no such stage."""
    known = stages(text, arguments)
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    last: dict[str, Instruction] = {}
    chain = list(ancestry(known, stage))
    for part in chain:
        scope: dict[str, str] = {}  # build arguments end with their stage
        for each in part.instructions:
            if each.name == "ARG":
                scope |= argument(each, scope | env, arguments or {})
            elif each.name in {"ENV", "LABEL"}:
                (env if each.name == "ENV" else labels).update(pairs(each.text, scope | env))
            else:
                last[each.name] = each
    check = last.get("HEALTHCHECK")
    return Image(
        base=chain[0].base,
        env=env,
        labels=labels,
        user=last["USER"].text if "USER" in last else "",
        workdir=last["WORKDIR"].text if "WORKDIR" in last else "/",
        entrypoint=last["ENTRYPOINT"].exec_form if "ENTRYPOINT" in last else None,
        cmd=last["CMD"].exec_form if "CMD" in last else None,
        healthcheck=Instruction("CMD", check.text.removeprefix("CMD ")).exec_form if check else None,
        healthcheck_options=check.flags if check else {},
        expose=last["EXPOSE"].words if "EXPOSE" in last else (),
        stop_signal=last["STOPSIGNAL"].text if "STOPSIGNAL" in last else "SIGTERM",
    )


def ancestry(known: Mapping[str, Stage], stage: str) -> Iterator[Stage]:
    """The stages that a stage is from, the first one first, and itself."""
    part = known[stage]
    if part.base in known:
        yield from ancestry(known, part.base)
    yield part


def argument(instruction: Instruction, known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The value of one ARG: the one given, else its default, else none."""
    name, equals, default = instruction.text.partition("=")
    if name in given:
        return {name: given[name]}
    return {name: replaced("".join(shlex.split(default)), known)} if equals else {}


def pairs(text: str, known: Mapping[str, str]) -> dict[str, str]:
    """What `A=b C="d e"` says, with variables replaced."""
    return {name: replaced(value, known) for name, _, value in (word.partition("=") for word in shlex.split(text))}


def replaced(text: str, known: Mapping[str, str]) -> str:
    """The text with `$NAME` and `${NAME}` replaced; what is not known is empty, as builders have it."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: known.get(match[1] or match[2], ""), text)
