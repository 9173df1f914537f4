"""Brings serving up on Ray Serve, and takes it down: three apps, so that a prediction needs no hop through the gateway.

    /predict   production replicas, which answer HTTP themselves
    /          the gateway: everything else
    (none)     the shadow, which only the production replicas call

Serve itself stays where others on the cluster use it.
"""

import logging
import socket
import time
from collections.abc import Callable

from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import ApplicationStatus

from actors.errors import ConfigError, LearningError
from actors.release_desk import PRODUCTION, SHADOW
from serve.config import ServeConfig
from serve.gateway import Gateway
from serve.names import REPLICA, SystemNames
from serve.replica import ProductionReplica, Replica

START_TIMEOUT_S = 120.0
_POLL_S = 0.1
_HEALTH_CHECK_S = 1.0
_SHUTDOWN_S = 5.0
REQUEST_S = 60.0  # in which Serve wants every answer, the last byte included
_REQUESTS = 1_024  # of a replica at once; what is beyond its means it refuses itself, in JSON
_QUIET = {"enable_access_log": False, "encoding": "TEXT"}


class Serving:
    def __init__(self, config: ServeConfig, names: SystemNames, tokens: tuple[str, ...]) -> None:
        self._config, self._names, self._tokens = config, names, tokens
        self._apps: list[str] = []

    @property
    def url(self) -> str:
        return f"http://{self._config.host}:{self._config.port}"

    def start(self) -> None:
        """Asks Serve for the apps. Raises ConfigError where the port, or a route, is taken."""
        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the run tells itself where it serves
        host, port = self._config.host, self._config.port
        if not _is_running():
            refuse_taken_port(host, port)
        # A request for which no replica stands would wait for ever.
        options = HTTPOptions(host=host, port=port, request_timeout_s=max(REQUEST_S, 2 * self._config.timeout_s))
        there = ray_serve.start(http_options=options, logging_config=_QUIET)
        if there is not None and (there.http_config.host, there.http_config.port) != (host, port):
            found = f"{there.http_config.host}:{there.http_config.port}"
            raise ConfigError(
                f"Ray Serve runs on this cluster already and listens at {found}, not at {host}:{port}: set serve.host and "
                "serve.port so, or learn without serving (--no-serve)"
            )
        n, c = self._names, self._config
        targets = [
            ray_serve.RunTarget(_gateway().bind(n, c, self._tokens), f"{n.system}-gateway", "/"),
            ray_serve.RunTarget(_production(c).bind(PRODUCTION, n, c), n.production_app, "/predict"),
        ]
        if c.shadow.replicas:
            targets.append(ray_serve.RunTarget(_shadow(c).bind(SHADOW, n, c), n.shadow_app, None))
        self._apps = [target.name for target in targets]
        try:
            ray_serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"Ray Serve on this cluster refuses the apps {', '.join(self._apps)}: {error}. Another system may serve there "
                "already: end it, or start this one with --no-serve"
            ) from error

    def wait(self, tick: Callable[[], None]) -> None:
        """Until every app runs. Raises LearningError where one does not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            apps = ray_serve.status().applications
            waiting = [name for name in self._apps if name not in apps or apps[name].status is not ApplicationStatus.RUNNING]
            if not waiting:
                return
            failed = [name for name in waiting if name in apps and apps[name].status is ApplicationStatus.DEPLOY_FAILED]
            if failed or time.monotonic() > deadline:
                name = (failed or waiting)[0]
                what = "cannot be started" if failed else f"has not started within {START_TIMEOUT_S:g} s"
                raise LearningError(
                    f"the Serve app {name} {what}: {apps[name].message if name in apps else 'nothing is known'}"
                )
            tick()
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Takes the apps down; and Serve, where it serves nobody else."""
        for name in self._apps:
            ray_serve.delete(name, _blocking=False)
        if not set(ray_serve.status().applications) - set(self._apps):
            ray_serve.shutdown()


def refuse_taken_port(host: str, port: int) -> None:
    """Raises ConfigError where this machine cannot listen there."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"serve.port {port} on {host} cannot be used ({error.strerror or error}): name another (--set serve.port=8001), "
            "or learn without serving (--no-serve)"
        ) from error


def _is_running() -> bool:
    return bool(ray_serve.status().proxies)


def _gateway() -> ray_serve.Deployment:
    return _deployment(ray_serve.ingress()(Gateway), "gateway", 1)


def _production(config: ServeConfig) -> ray_serve.Deployment:
    return _deployment(ray_serve.ingress()(ProductionReplica), REPLICA, config.production.replicas)


def _shadow(config: ServeConfig) -> ray_serve.Deployment:
    in_flight = config.shadow.max_in_flight
    shadow = _deployment(Replica, REPLICA, config.shadow.replicas)
    return shadow.options(max_ongoing_requests=in_flight, max_queued_requests=in_flight * config.production.replicas)


def _deployment(actor_class: type, name: str, replicas: int) -> ray_serve.Deployment:
    made: ray_serve.Deployment = ray_serve.deployment(
        actor_class,
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=_REQUESTS,
        health_check_period_s=_HEALTH_CHECK_S,
        graceful_shutdown_timeout_s=_SHUTDOWN_S,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": 0},
        logging_config=_QUIET,
    )
    return made
