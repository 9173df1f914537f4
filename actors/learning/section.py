"""A section of the configuration file, defined beside the code that it configures."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


class Section(BaseModel):
    """Frozen, and strict: a key that is not declared is refused by the loader, which names its path."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def setting(default: Any, description: str, *, unit: str | None = None, **bounds: Any) -> Any:
    """A key of a section: its default, one sentence for the reader, its unit and its bounds (`ge`, `gt`, `le`, ...)."""
    extra: JsonDict | None = {"unit": unit} if unit else None
    if isinstance(default, (list, dict)) or (callable(default) and isinstance(default, type)):
        factory = default if callable(default) else lambda: type(default)(default)
        return Field(default_factory=factory, description=description, json_schema_extra=extra, **bounds)
    return Field(default, description=description, json_schema_extra=extra, **bounds)


def kinds_alone(items: Any) -> Any:
    """`adwin` and `[adwin, ddm]` are short for lists of `{kind: adwin}` and so on."""
    if isinstance(items, str):
        items = [items]
    if isinstance(items, (list, tuple)):
        return [{"kind": item} if isinstance(item, str) else item for item in items]
    return items
