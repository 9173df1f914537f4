"""What is wrong with a configuration, told so that it can be mended: where, the value seen, what is wanted, what to write."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from cluster.config_keys import Key, coerced_at
from cluster.config_yaml import flow

_NESTED = {"model_type", "dict_type", "model_attributes_type"}
_UNKNOWN = "extra_forbidden"
_OWN_MESSAGE = {"value_error", "assertion_error"}
_WANTED = {"string_type": "text", "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false"}
_MIN_SIMILARITY = 0.6


def problems_of(error: ValidationError | None, document: Any, keys: Sequence[Key]) -> list[str]:
    """One line per wrong key; `document` is what was validated, `error` what the validation said."""
    found = {
        path: _mistyped(path, value, frozenset({key.variant or ""}), keys, {"type": "coerced"})
        for key, at, held in _held_by(document, "", keys)
        for path, value in coerced_at(key.annotation, held, at)
    }
    for detail in error.errors(include_url=False) if error else ():
        path, tags, value = _locate(detail["loc"], document, missing=detail["type"] == "missing")
        if detail["type"] == _UNKNOWN:
            for unknown in _leaves(path, value):
                found[unknown] = f"{unknown}: unknown key{_did_you_mean(unknown, keys)}"
        elif detail["type"] in _OWN_MESSAGE:
            message = str(detail["ctx"]["error"])
            named = path and message.startswith(path.split("[")[0])
            found[path] = message if named else f"{path or 'configuration'}: {message}"
        else:
            found.setdefault(path, _mistyped(path, value, tags, keys, detail))
    return [line for path, line in found.items() if not _explained_below(path, found)]


def nearest(path: str, keys: Sequence[Key]) -> str | None:
    """The valid path that `path` was probably meant to be; a right name in a wrong section counts as near."""

    def likeness(key: Key) -> float:
        alike = difflib.SequenceMatcher(None, key.path, pattern).ratio()
        same_name = key.path.rpartition(".")[2] == pattern.rpartition(".")[2]
        same_section = key.path.rpartition(".")[0] == pattern.rpartition(".")[0]
        names = difflib.SequenceMatcher(None, key.path.rpartition(".")[2], pattern.rpartition(".")[2]).ratio()
        return max(alike, 0.6 + 0.3 * alike if same_name else 0.0, 0.3 + 0.65 * names if same_section else 0.0)

    pattern = _pattern(path)
    best = max(keys, key=likeness, default=None)
    return best.path if best is not None and likeness(best) >= _MIN_SIMILARITY else None


def kind_of(value: Any) -> str:
    """A value as its writer sees it, with what it is: `"two" (text)`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{flow(value)} (a truth value)"
    for types, words in ((int, "a whole number"), (float, "a number"), (str, "text"), (list, "a list"), (Mapping, "a mapping")):
        if isinstance(value, types):
            shown = f'"{value}"' if isinstance(value, str) else flow(value)
            return f"{shown if len(shown) <= 80 else shown[:77] + '...'} ({words})"
    return repr(value)


def _locate(location: Sequence[int | str], document: Any, *, missing: bool) -> tuple[str, frozenset[str], Any]:
    """The dotted path of a problem, the alternatives of unions passed on the way, and the value that is there.

    pydantic puts the alternative it tried between the keys; the document tells which of the two a step is.
    """
    path, tags, value = "", [], document
    for i, step in enumerate(location):
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, Mapping) and step in value:
            path, value = f"{path}.{step}" if path else str(step), value[str(step)]
        elif missing and i == len(location) - 1:
            path, value = f"{path}.{step}" if path else str(step), None
        else:
            tags.append(str(step))
    return path, frozenset(tags), value


def _held_by(document: Any, path: str, keys: Sequence[Key]) -> Iterator[tuple[Key, str, Any]]:
    """Every value in the document that a key stands for."""
    if isinstance(document, list):
        for i, item in enumerate(document):
            if isinstance(item, Mapping):
                yield from _held_by(item, f"{path}[{i}]", keys)
        return
    for name, value in document.items():
        at = f"{path}.{name}" if path else str(name)
        if (key := _key_at(at, frozenset({str(document.get("kind"))}), keys)) is not None:
            yield key, at, value
            if isinstance(value, Mapping | list):
                yield from _held_by(value, at, keys)


def _leaves(path: str, value: Any) -> Iterator[str]:
    """What to name of an unknown key: the key itself, or the one key that was set below it (`--set lerners.shards=2`)."""
    while isinstance(value, Mapping) and len(value) == 1:
        ((key, value),) = value.items()
        path = f"{path}.{key}"
    yield path


def _pattern(path: str) -> str:
    """`drift.detectors[0].delta` as the keys have it: `drift.detectors[].delta`."""
    head, *rest = path.split("[")
    return head + "".join(f"[{part[part.find(']') :]}" for part in rest)


def _key_at(path: str, tags: frozenset[str], keys: Sequence[Key]) -> Key | None:
    pattern = _pattern(path)
    matching = [key for key in keys if key.path == pattern]
    return next((key for key in matching if key.variant in tags), matching[0] if matching else None)


def _did_you_mean(path: str, keys: Sequence[Key]) -> str:
    meant = nearest(path, keys)
    for index in re.findall(r"\[[0-9]+\]", path):
        meant = meant.replace("[]", index, 1) if meant else None
    return f"; did you mean {meant}?" if meant else "; `perennial config` prints every key there is"


def _mistyped(path: str, value: Any, tags: frozenset[str], keys: Sequence[Key], detail: Mapping[str, Any]) -> str:
    key = _key_at(path, tags, keys)
    within = None if key else _key_at(path.rpartition("[")[0], tags, keys)  # an item of a list
    match detail.get("type", ""):
        case "missing":
            return f"{path}: the key is missing; add it: {key.type if key else detail['msg']}"
        case "union_tag_not_found":
            kinds = f", for example in {within.type}" if within else ""
            return f"{path}.{_discriminator(detail)}: the key is missing; add it{kinds}"
        case "union_tag_invalid":
            choices = [tag.strip("' ") for tag in detail["ctx"]["expected_tags"].split(",")]
            seen = detail["ctx"]["tag"]
            wanted = " | ".join(choices)
            return f"{path}.{_discriminator(detail)}: got {kind_of(seen)}, wanted one of {wanted}{_choice(seen, choices)}"
        case "string_pattern_mismatch" if key:
            return f"{path}: got {kind_of(value)}, wanted another form ({key.description}){_example(path, key)}"
    if key is None:
        kind = "a mapping of keys" if detail["type"] in _NESTED else _WANTED.get(detail["type"])
        wanted = f"an item of {within.type}" if within else kind or detail["msg"]
        return f"{path or 'configuration'}: got {kind_of(value)}, wanted {wanted}"
    return f"{path}: got {kind_of(value)}, wanted {'one of ' if key.choices else ''}{key.type}{_remedy(path, value, key)}"


def _discriminator(detail: Mapping[str, Any]) -> str:
    return str(detail["ctx"]["discriminator"]).strip("'")


def _remedy(path: str, value: Any, key: Key) -> str:
    name = path.rpartition(".")[2]
    if key.is_section:
        return f"; write its keys on lines of their own below {name}:"
    if value is None and not key.required:
        return f"; leave the key out to have the default, {flow(key.default)}"
    if key.choices:
        return _choice(value, key.choices)
    if key.type == "true or false" and str(value).lower() in ("yes", "on", "no", "off", "true", "false"):
        return f'; write "{name}: {"true" if str(value).lower() in ("yes", "on", "true") else "false"}", without quotes'
    if "number" in key.type and isinstance(value, str) and _is_number(value):
        return "; take the quotes away"
    if isinstance(value, float) and value.is_integer():
        return f'; write "{name}: {int(value)}"'
    if key.type.startswith("a list"):
        return '; a list is written [a, b], or with one "- " line for each item'
    return _example(path, key)


def _example(path: str, key: Key) -> str:
    name = path.rpartition(".")[2]
    return f'; for example "{name}: {flow(key.default)}", the default' if not key.required and key.default is not None else ""


def _choice(value: Any, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=_MIN_SIMILARITY)
    return f"; did you mean {near[0]}?" if near else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _explained_below(path: str, found: Mapping[str, str]) -> bool:
    """True where a union's other alternative got further and says more exactly what is wrong."""
    return any(other.startswith((f"{path}[", f"{path}.")) for other in found) if path else False
