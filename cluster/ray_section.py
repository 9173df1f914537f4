"""How the system finds or starts its Ray cluster."""

from actors.learning.section import Section, setting

MIN_OBJECT_STORE_BYTES = 75 * 1024 * 1024  # Ray refuses less


class RayConfig(Section):
    address: str = setting(
        "local",
        "`local` starts Ray here for this run, `auto` joins the cluster this machine belongs to, HOST:PORT joins another.",
        pattern=r"^(local|auto|[A-Za-z0-9_.\-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5})$",
    )
    dashboard: bool = setting(True, "With `local`: start Ray's dashboard, which shows actors, logs and metrics.")
    dashboard_port: int = setting(8265, "With `local`: port of the dashboard on 127.0.0.1.", ge=1, le=65535)
    num_cpus: int | None = setting(None, "With `local`: CPUs that Ray may hand out; null means all of them.", unit="CPUs", ge=1)
    object_store_memory_bytes: int | None = setting(
        None,
        "With `local`: size of the shared memory for batches and weights; null lets Ray choose.",
        unit="bytes",
        ge=MIN_OBJECT_STORE_BYTES,
    )
    metrics_export_port: int | None = setting(
        None, "With `local`: port on which Prometheus finds this machine's metrics; null lets Ray choose.", ge=1, le=65535
    )
