"""How predictions are served and what comes back is taken in."""

import os

from actors.errors import ConfigError
from actors.learning.section import Section, setting


class ProductionConfig(Section):
    replicas: int = setting(1, "Production replicas.", ge=1, le=1024)


class ShadowConfig(Section):
    replicas: int = setting(1, "Shadow replicas; 0: no shadow.", ge=0, le=1024)
    sample: float = setting(1.0, "Fraction of the requests that the shadow gets to see, too.", ge=0, le=1)
    max_in_flight: int = setting(
        4,
        "Calls of a production replica to the shadow under way at once, each with what came in within 50 ms; what comes "
        "beyond is dropped and counted.",
        ge=1,
    )
    timeout_s: float = setting(1.0, "Deadline of a mirrored request.", unit="seconds", gt=0)


class ServeConfig(Section):
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0: every address of the machine.", min_length=1)
    port: int = setting(8000, "Port to listen on.", ge=1, le=65535)
    production: ProductionConfig = setting(ProductionConfig, "The replicas that answer.")
    shadow: ShadowConfig = setting(ShadowConfig, "The replicas that see the same requests and whose answers nobody gets.")
    tokens_env: str | None = setting(
        None,
        "Name of the environment variable with the tokens, separated by commas, one of which feedback, promote and rollback "
        "must bring (Authorization: Bearer ...); null: everybody may.",
    )
    max_request_bytes: int = setting(1_000_000, "The largest request body.", unit="bytes", ge=1_000)
    max_instances: int = setting(1_000, "The most instances or feedback items in one request.", ge=1)
    timeout_s: float = setting(10.0, "Deadline of a request.", unit="seconds", gt=0)
    feedback_per_s: float = setting(
        2_000.0, "Feedback items that one client may send on average, ten seconds' worth at once.", unit="items/s", gt=0
    )


def tokens_of(config: ServeConfig) -> tuple[str, ...]:
    """The tokens that the environment holds, none where none are asked for. Raises ConfigError where they are missing."""
    if config.tokens_env is None:
        return ()
    tokens = tuple(token.strip() for token in os.environ.get(config.tokens_env, "").split(",") if token.strip())
    if not tokens:
        raise ConfigError(
            f"serve.tokens_env is {config.tokens_env!r}, and that environment variable holds no token: set it to one or more, "
            "separated by commas, or set serve.tokens_env to null"
        )
    return tokens
