"""A configuration written out for people: as a commented YAML file that can be loaded again, and as a reference page.

`python -m cluster.config_text` prints the reference page, docs/configuration.md.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from actors.learning.section import Section
from cluster.config_keys import Key, type_in_words, unit_of
from cluster.config_yaml import flow

_WIDTH = 110

_PAGE = """\
# Configuration

One YAML file, `ray_config.yaml` in the working directory or the one named by `--config`; every key may be left out.
`--set a.b=value` overrides a key from the command line, `perennial config` prints what is in force.
An unknown key, a wrong type or a value out of bounds ends the command with exit code 2 and one line per problem.
Numbers, truth values and texts are told apart by the rules of YAML 1.2: `1e-3` is a number, `no` is a text.

This page is written by `make docs` from the sections themselves; a test compares the two.
"""


def yaml_of(section: Section) -> str:
    """The section as YAML: the value of every key, with meaning, type, unit and default in comments."""
    return "\n".join(_yaml_lines(section, 0)) + "\n"


def page_of(keys: Sequence[Key]) -> str:
    """The reference page: one table for the keys at the top, one for each section."""
    top = [key for key in keys if "." not in key.path]
    parts = [_PAGE, _table("## At the top of the file", "", [key for key in top if not key.is_section])]
    for section in top:
        if section.is_section:
            inner = [key for key in keys if key.path.startswith(f"{section.path}.") and not key.is_section]
            parts.append(_table(f"## `{section.path}`", section.description, inner))
    return "\n".join(parts)


def _yaml_lines(section: Section, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for i, (name, info) in enumerate(type(section).model_fields.items()):
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from [""] if i or depth == 0 else []
            yield from _comment(indent, info.description or "")
            yield f"{indent}{name}:"
            yield from _yaml_lines(value, depth + 1)
            continue
        yield from _comment(indent, f"{info.description} [{_facts(info)}]")
        if isinstance(value, list | tuple) and any(isinstance(item, Section) for item in value):
            yield f"{indent}{name}:"
            for item in value:
                yield from _item_lines(item, depth + 1)
        else:
            yield f"{indent}{name}: {flow(to_jsonable_python(value))}"


def _item_lines(item: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if not isinstance(item, Section):
        yield f"{indent}- {flow(to_jsonable_python(item))}"
        return
    yield f"{indent}-"
    yield from _yaml_lines(item, depth + 1)


def _facts(info: FieldInfo) -> str:
    facts = [type_in_words(info)]
    if (unit := unit_of(info)) is not None:
        facts.append(f"in {unit}")
    if info.is_required():
        facts.append("required")
    else:
        facts.append(f"default {flow(to_jsonable_python(info.get_default(call_default_factory=True)))}")
    return "; ".join(facts)


def _comment(indent: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_long_words=False)


def _table(title: str, description: str, keys: Sequence[Key]) -> str:
    rows = [f"{title}\n", *([f"{description}\n"] if description else [])]
    rows += ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
    for key in keys:
        default = "required" if key.required else f"`{flow(key.default)}`"
        kind = f" ({key.variant})" if key.variant else ""
        cells = (f"`{key.path}`{kind}", key.type, default, key.unit or "", key.description)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def main() -> None:
    from cluster.config import documented_keys  # here: cluster.config writes its YAML with this module

    print(page_of(documented_keys()), end="")


if __name__ == "__main__":
    main()
