"""From flags, environment and file to `Settings`, with the source of each value.

Precedence: flag, `HEADRACE_SERVER__LISTEN` (section, two underscores, field), file
(`--config`, `HEADRACE_CONFIG`, else `headrace.toml` in the working directory if it is
there), default. A later start must not be needed to learn of the next fault: names and
values of all sources are judged before `BadSettings` is raised, once.

A token file is named here and read by whoever needs the token.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

import msgspec

from headrace.model.durations import parse_duration_ms, parse_size_bytes
from headrace.model.errors import BadRequest, BadSettings
from headrace.model.settings import Settings, faults, fields, sections, shown

FILE_NAME = "headrace.toml"
ENV_PREFIX = "HEADRACE_"
ENV_CONFIG = "HEADRACE_CONFIG"
ENV_URL = "HEADRACE_URL"
DEFAULT = "default"
INT_MAX = 2**63 - 1
"""Ranges are judged by `faults`; here a number must only be one that msgspec can carry."""

_DIGITS_MAX = 32
"""More are out of every range, and Python refuses to read very many."""

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}


class Given(msgspec.Struct, frozen=True):
    """A value as somebody wrote it, and where."""

    raw: Any
    source: str


class Loaded(msgspec.Struct, frozen=True):
    settings: Settings
    sources: dict[str, str]
    """`section.field` → where its value comes from: a flag, a variable, a file, or `default`."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(name, value as a person writes it, source) of every setting, in order."""
        for section, values in _each_section(self.settings):
            for field in values.__struct_fields__:
                name = f"{section}.{field}"
                yield name, shown(field, getattr(values, field)), self.sources[name]


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    directory: str = ".",
) -> Loaded:
    """The settings in force.

    `flags` maps `section.field` to what the flag brought; None is a flag not given.
    Raises: `BadSettings` with every fault of every source.
    """
    problems: list[str] = []
    given = _from_file(config or environ.get(ENV_CONFIG), directory, problems)
    given |= _from_environment(environ, problems)
    given |= {
        name: Given(raw, f"--{name.partition('.')[2].replace('_', '-')}")
        for name, raw in flags.items()
        if raw is not None
    }
    settings = _build(given, problems)
    for fault in faults(settings):
        source = given[fault.setting].source if fault.setting in given else DEFAULT
        problems.append(f"{source}: {fault.setting} {fault.message}")
    if problems:
        raise BadSettings(problems)
    known = _known_names()
    return Loaded(
        settings, {name: given[name].source if name in given else DEFAULT for name in known}
    )


# --- sources


def _from_file(path: str | None, directory: str, problems: list[str]) -> dict[str, Given]:
    asked_for = path is not None
    path = path or os.path.join(directory, FILE_NAME)
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        if asked_for:
            problems.append(f"{path}: no such file.")
        return {}
    except RecursionError:
        problems.append(f"{path}: it is nested too deeply.")
        return {}
    except (OSError, ValueError) as error:  # TOMLDecodeError, or an int of too many digits
        problems.append(f"{path}: {error}.")
        return {}
    source = path if asked_for else FILE_NAME
    given: dict[str, Given] = {}
    for section, values in content.items():
        if section not in sections():
            problems.append(f"{source}: {_unknown(section, sections())}")
        elif not isinstance(values, dict):
            problems.append(
                f"{source}: {section} is a section; write [{section}] above its fields."
            )
        else:
            given |= {f"{section}.{field}": Given(raw, source) for field, raw in values.items()}
    return _known_only(given, problems)


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    given = {}
    if environ.get(ENV_URL):
        given["client.url"] = Given(environ[ENV_URL], ENV_URL)
    for variable in sorted(environ):
        tail = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX):
            continue
        if "__" in tail:
            given[tail.replace("__", ".", 1)] = Given(environ[variable], variable)
        elif meant := _with_one_underscore(tail):
            problems.append(f"{variable}: did you mean {meant}, with two underscores?")
    return _known_only(given, problems)


def _with_one_underscore(tail: str) -> str:
    """The variable that somebody meant who wrote SECTION_FIELD; `` when nobody can tell."""
    section, _, field = tail.partition("_")
    if section in sections() and field in fields(sections()[section]):
        return f"{ENV_PREFIX}{section}__{field}".upper()
    return ""


def _known_only(given: dict[str, Given], problems: list[str]) -> dict[str, Given]:
    known = _known_names()
    for name, value in given.items():
        if name not in known:
            problems.append(f"{value.source}: {_unknown(name, known)}")
    return {name: value for name, value in given.items() if name in known}


def _unknown(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{name} is unknown; did you mean {close[0]}?" if close else f"{name} is unknown."


def _known_names() -> dict[str, Any]:
    """`section.field` → its annotation."""
    return {
        f"{section}.{field}": annotation
        for section, of in sections().items()
        for field, annotation in fields(of).items()
    }


def _each_section(settings: Settings) -> Iterator[tuple[str, msgspec.Struct]]:
    for section in sections():
        yield section, getattr(settings, section)


# --- values


def _build(given: Mapping[str, Given], problems: list[str]) -> Settings:
    """The tree of what could be read; a value that could not keeps its default."""
    known = _known_names()
    read: dict[str, dict[str, Any]] = {section: {} for section in sections()}
    for name, value in given.items():
        section, _, field = name.partition(".")
        try:
            read[section][field] = _value(name, value.raw, known[name])
        except BadRequest as error:
            problems.append(f"{value.source}: {error.message}")
    tree: dict[str, Any] = {section: of(**read[section]) for section, of in sections().items()}
    return Settings(**tree)


def _value(name: str, raw: Any, annotation: Any) -> Any:
    kind = getattr(annotation, "__origin__", annotation)
    if kind is bool:
        return _boolean(name, raw)
    if kind is int:
        return _number(name, raw)
    if get_origin(annotation) is tuple:
        return _texts(name, raw)
    if not isinstance(raw, str):
        raise BadRequest(f"{name} must be a text, not {_word(raw)}.")
    return _plain(name, raw)


def _plain(name: str, text: str) -> str:
    """No path and no address can hold a zero byte: the system would refuse it much later."""
    if "\0" in text:
        raise BadRequest(f"{name} holds a zero byte.")
    return text


def _boolean(name: str, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    found = _BOOLEANS.get(raw.strip().lower()) if isinstance(raw, str) else None
    if found is None:
        given = repr(raw) if isinstance(raw, str) else _word(raw)
        raise BadRequest(f"{name} must be true or false, not {given}.")
    return found


def _number(name: str, raw: Any) -> int:
    """A bare number is in the unit that the name ends in."""
    if isinstance(raw, str) and raw.strip().isascii() and raw.strip().isdigit():
        digits = raw.strip().lstrip("0") or "0"
        raw = int(digits) if len(digits) <= _DIGITS_MAX else INT_MAX + 1
    if name.endswith("_ms"):
        return parse_duration_ms(raw, name=name, min_ms=-INT_MAX, max_ms=INT_MAX)
    if "_bytes" in name:
        return parse_size_bytes(raw, name=name, min_bytes=-INT_MAX, max_bytes=INT_MAX)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise BadRequest(f"{name} must be a whole number, not {raw!r}.")
    if not -INT_MAX <= raw <= INT_MAX:
        raise BadRequest(f"{name} is out of range: a number of {raw.bit_length()} bits.")
    return raw


def _texts(name: str, raw: Any) -> tuple[str, ...]:
    """A list of texts, or one text with commas between its parts."""
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise BadRequest(f'{name} must be a list of texts, as ["127.0.0.1:7431"].')
    for part in parts:
        _plain(name, part)
    return tuple(part.strip() for part in parts if part.strip())


def _word(raw: Any) -> str:
    return {dict: "a table", list: "a list", bool: "true or false"}.get(type(raw), "a number")
