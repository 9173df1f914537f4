"""Every key that a configuration may have, read off the sections: path, type in plain words, default, unit, meaning."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from actors.learning.section import Section

_WORDS = {
    bool: ("true or false", "truth values"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    NoneType: ("null", "nulls"),
}
_BOUNDS = {
    annotated_types.Ge: (">=", "ge"),
    annotated_types.Gt: (">", "gt"),
    annotated_types.Le: ("<=", "le"),
    annotated_types.Lt: ("<", "lt"),
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key. In `path`, `[]` stands for the index of a list item; `variant` is the item's kind where kinds differ in keys."""

    path: str
    type: str
    default: Any
    unit: str | None
    description: str
    is_section: bool
    required: bool
    annotation: Any
    variant: str | None = None
    choices: tuple[str, ...] = ()  # what the value must be one of, where it may be nothing else


def keys_of(section: type[Section], prefix: str = "", variant: str | None = None) -> Iterator[Key]:
    """The keys of a section and of all sections within it, in the order in which they are declared."""
    for name, info in section.model_fields.items():
        path = f"{prefix}{name}"
        nested = tuple(_sections_in(info.annotation, ""))
        default = info.get_default(call_default_factory=True)
        yield Key(
            path=path,
            type=type_in_words(info),
            default=None if default is PydanticUndefined else to_jsonable_python(default),
            unit=unit_of(info),
            description=info.description or "",
            is_section=any(suffix == "" for suffix, _ in nested),
            required=info.is_required(),
            annotation=info.annotation,
            variant=variant,
            choices=tuple(_choices(info.annotation)) if all(map(_is_choice, _members(info.annotation))) else (),
        )
        for suffix, inner in nested:
            yield from keys_of(inner, f"{path}{suffix}.", tag_of(inner) if len(nested) > 1 else variant)


def unit_of(info: FieldInfo) -> str | None:
    extra = info.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return unit if isinstance(unit, str) else None


def tag_of(section: type[Section]) -> str | None:
    """What tells this kind of section from its alternatives: the value of its one-word Literal."""
    for info in section.model_fields.values():
        if get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1:
            return str(_plain(get_args(info.annotation)[0]))
    return None


def type_in_words(info: FieldInfo) -> str:
    return _words(info.annotation, info.metadata)


def coerced_at(annotation: Any, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Where pydantic would make another type of a scalar without a word: "10" to 10, true to 1, "no" to false."""
    members = [_unwrapped(member) for member in _members(annotation)]
    if isinstance(value, list):
        for item in (get_args(member)[0] for member in members if get_origin(member) in (list, tuple) and get_args(member)):
            for i, inner in enumerate(value):
                yield from coerced_at(item, inner, f"{path}[{i}]")
        return
    if any(value == _plain(choice) for member in members if get_origin(member) is Literal for choice in get_args(member)):
        return
    wanted = {member for member in members if get_origin(member) is not Literal}
    if isinstance(value, bool | int | float | str) and wanted and wanted <= {bool, int, float, NoneType}:
        numbers = not isinstance(value, bool | str) and wanted & {int, float}
        if not numbers and type(value) not in wanted:
            yield path, value


def _members(annotation: Any) -> tuple[Any, ...]:
    annotation = _unwrapped(annotation)
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _words(annotation: Any, metadata: Iterable[Any] = (), *, plural: bool = False) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], (*arguments[1:], *metadata), plural=plural)
    bounds = _bounds(metadata)
    if annotation in _WORDS:
        return _WORDS[annotation][plural] + (f" {bounds}" if bounds else "")
    if origin in (Union, UnionType):
        members = sorted((m for m in arguments), key=lambda m: m is NoneType)
        if all(_is_section(m) for m in members):
            return f"section{'s' if plural else ''} of kind " + " | ".join(str(tag_of(_unwrapped(m))) for m in members)
        words = [_words(m, () if m is NoneType else metadata, plural=plural) for m in members]
        return (" | " if all(map(_is_choice, members)) else " or ").join(dict.fromkeys(words))
    if _is_choice(annotation):
        return " | ".join(_choices(annotation))
    if origin in (list, tuple, set, frozenset):
        items = _words(arguments[0] if arguments else Any, plural=True)
        return f"{'lists' if plural else 'a list'} of {items}" + (f" ({bounds})" if bounds else "")
    if origin is dict or annotation is dict:
        return "mappings" if plural else "a mapping"
    if _is_section(annotation):
        return "sections" if plural else "a section"
    if annotation is Any:
        return "values" if plural else "any value"
    return "texts" if plural else "text"  # what is left is a path or the like, written as text


def _bounds(metadata: Iterable[Any]) -> str:
    parts, lengths = [], []
    for bound in metadata:
        if (known := _BOUNDS.get(type(bound))) is not None:
            parts.append(f"{known[0]} {getattr(bound, known[1])}")
        elif isinstance(bound, annotated_types.MinLen):
            lengths.append(f"at least {bound.min_length} long")
        elif isinstance(bound, annotated_types.MaxLen):
            lengths.append(f"at most {bound.max_length} long")
    return " ".join(filter(None, (" and ".join(parts), ", ".join(lengths))))


def _choices(annotation: Any) -> Iterator[str]:
    for member in _members(annotation):
        if get_origin(member) is Literal:
            yield from (str(_plain(value)) for value in get_args(member))
        elif _is_choice(member):
            yield from (str(value.value) for value in member)


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum))


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _unwrapped(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_section(annotation: Any) -> bool:
    annotation = _unwrapped(annotation)
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _sections_in(annotation: Any, suffix: str) -> Iterator[tuple[str, type[Section]]]:
    annotation = _unwrapped(annotation)
    if _is_section(annotation):
        yield suffix, annotation
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _sections_in(member, suffix)
    elif get_origin(annotation) in (list, tuple):
        yield from _sections_in(get_args(annotation)[0], f"{suffix}[]")
