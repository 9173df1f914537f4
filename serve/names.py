"""Where Serve's replicas find the rest of the system, and each other."""

from dataclasses import dataclass

REPLICA = "replica"  # the deployment's name within its app


@dataclass(frozen=True, slots=True)
class SystemNames:
    """Where a Serve replica finds the others."""

    namespace: str
    version_manager: str
    label_joiner: str
    production_app: str
    shadow_app: str
    system: str
