"""Imports go one way, actors.learning < actors < serve < cluster, and what is pure stays pure."""

import ast
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("actors.learning", "actors", "serve", "cluster")
EVERYWHERE = {"actors.errors"}  # imports nothing, and may be raised anywhere
IMPURE = {"io", "os", "pathlib", "random", "shutil", "socket", "subprocess", "tempfile", "threading", "time", "logging"}


def modules() -> list[Path]:
    return sorted(file for package in ("actors", "serve", "cluster") for file in (ROOT / package).rglob("*.py"))


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imports_of(file: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, inside functions too."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            yield node.module


def packages_of(file: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports_of(file)}


def rank_of(module: str) -> int | None:
    """The place in the order; None for what is not ours. `from actors import learning` counts as actors."""
    return next((rank for rank, package in enumerate(ORDER) if f"{module}.".startswith(f"{package}.")), None)


ALL = modules()
ROLES = [file for file in ALL if name_of(file).startswith("actors")]
LEARNING = [file for file in ALL if name_of(file).startswith("actors.learning")]


def calls_of(file: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)]


def offenders(files: Iterable[Path], offence: Callable[[Path], Collection[str]]) -> dict[str, Collection[str]]:
    """By module, what of it breaks a rule."""
    return {name_of(file): found for file in files if (found := offence(file))}


def test_no_module_imports_from_a_package_above_its_own():
    def above(file: Path) -> list[str]:
        own = rank_of(name_of(file))
        assert own is not None
        return [m for m in imports_of(file) if m not in EVERYWHERE and (rank := rank_of(m)) is not None and rank > own]

    assert offenders(ALL, above) == {}


def test_learning_knows_neither_ray_nor_files_nor_a_clock():
    assert offenders(LEARNING, lambda file: packages_of(file) & ({"ray"} | IMPURE)) == {}


def test_learning_draws_no_global_random_numbers_and_opens_nothing():
    allowed = {"np.random.default_rng", "np.random.Generator", "np.random.PCG64", "np.random.Philox", "np.random.SeedSequence"}
    refused = {"open", "print", "input", "torch.rand", "torch.randn", "torch.save", "torch.load"}

    def impure(file: Path) -> set[str]:
        names = {ast.unparse(call.func) for call in calls_of(file)}
        return {name for name in names - allowed if name.startswith("np.random.")} | names & refused

    assert offenders(LEARNING, impure) == {}


def test_learning_seeds_torch_only_where_its_global_generator_is_put_back():
    """A model factory of the user's draws from torch's global generator; there is no other way to give it a seed."""

    def unguarded(file: Path) -> list[str]:
        guarded = [
            node
            for block in ast.walk(tree_of(file))
            if isinstance(block, ast.With) and any("fork_rng" in ast.unparse(item.context_expr) for item in block.items)
            for node in ast.walk(block)
        ]
        seeding = [call for call in calls_of(file) if ast.unparse(call.func) == "torch.manual_seed"]
        return [f"line {call.lineno}" for call in seeding if call not in guarded]

    assert offenders(LEARNING, unguarded) == {}


def test_the_roles_are_plain_classes_that_know_no_ray():
    assert offenders(ROLES, lambda file: packages_of(file) & {"ray"}) == {}


def test_roles_that_do_not_compute_with_torch_do_not_import_it():
    """It is seconds of every start, and 200 MB of every process."""
    light = "actors.ingestor, actors.replay_shard, actors.label_joiner, actors.version_manager, cluster.vitals, cluster.calls"
    code = f"import sys, {light}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_our_serve_is_never_hidden_by_rays():
    def hiding(file: Path) -> list[str]:
        return [
            f"line {node.lineno}"
            for node in ast.walk(tree_of(file))
            if isinstance(node, ast.ImportFrom) and node.module == "ray"
            for alias in node.names
            if alias.name == "serve" and alias.asname != "ray_serve"
        ]

    assert offenders(ALL, hiding) == {}


@pytest.mark.parametrize("folder", ["tests", "actors", "cluster", "serve"])
def test_no_module_takes_a_name_of_the_standard_library_where_scripts_would_find_it(folder):
    clashing = [file for file in (ROOT / folder).glob("*.py") if file.stem in sys.stdlib_module_names]
    assert clashing == []


def test_no_package_marker_lies_under_tests():
    assert list((ROOT / "tests").rglob("__init__.py")) == []
