"""What makes of a role an actor that can be asked whether it lives.

Every actor's process imports this module, and so it imports nothing that is large: not every role needs torch.
"""

import os
from dataclasses import dataclass
from typing import Any

import ray

from actors.errors import PerennialError


@dataclass(frozen=True, slots=True)
class Vitals:
    """An actor's own word on where it lives."""

    pid: int
    node: str


def with_vitals(role_class: type) -> type:
    """The role, answering `vitals`. What its constructor refuses, `vitals` raises: of that, Ray keeps only the text."""

    def construct(self: Any, *arguments: Any) -> None:
        self.refusal = None
        try:
            super(role, self).__init__(*arguments)
        except PerennialError as error:
            self.refusal = error

    def vitals(self: Any) -> Vitals:
        if self.refusal is not None:
            raise self.refusal
        return Vitals(os.getpid(), ray.get_runtime_context().get_node_id())

    role: type[Any] = type(
        role_class.__name__, (role_class,), {"__init__": construct, "vitals": vitals, "__doc__": role_class.__doc__}
    )
    return role
