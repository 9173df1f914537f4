"""A user's own folder called `actors`, `serve` or `cluster` would be imported in place of ours; this tells so."""

import importlib.util
from pathlib import Path

from actors.errors import ConfigError

PACKAGES = ("actors", "serve", "cluster")
_HOME = Path(__file__).resolve().parent.parent


def refuse_shadowed_packages(working_dir: Path | None = None) -> None:
    """Raises ConfigError where one of our packages is, or in a Ray worker would be, imported from elsewhere.

    Ray puts the working directory (None: the current one) first on the import path of every worker, even where this
    process found the right packages.
    """
    folder = (working_dir or Path.cwd()).resolve()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        imported = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        candidates = [] if folder == _HOME else [folder / name / "__init__.py", folder / f"{name}.py"]
        for file in [*([imported] if imported else []), *(c for c in candidates if c.is_file())]:
            if file.parent != _HOME / name:
                raise ConfigError(
                    f"{file} hides Perennial's own package {name!r} ({_HOME / name}): Python would import it instead. "
                    f"Run from another folder, or give your {name!r} another name."
                )
