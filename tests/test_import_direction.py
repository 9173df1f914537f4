"""Imports go one way, actors.learning < actors < serve < cluster, and what is pure stays pure."""

import ast
import subprocess
import sys
from collections.abc import Iterator
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


def imports_of(file: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            yield node.module


def rank_of(module: str) -> int | None:
    """The place in the order; None for what is not ours. `from actors import learning` counts as actors."""
    return next((rank for rank, package in enumerate(ORDER) if f"{module}.".startswith(f"{package}.")), None)


ALL = pytest.mark.parametrize("file", modules(), ids=name_of)
ROLES = pytest.mark.parametrize("file", sorted((ROOT / "actors").rglob("*.py")), ids=name_of)
LEARNING = pytest.mark.parametrize("file", sorted((ROOT / "actors" / "learning").rglob("*.py")), ids=name_of)


@ALL
def test_no_module_imports_from_a_package_above_its_own(file):
    own = rank_of(name_of(file))
    assert own is not None
    above = [m for m in imports_of(file) if m not in EVERYWHERE and (rank := rank_of(m)) is not None and rank > own]
    assert above == []


@LEARNING
def test_learning_knows_neither_ray_nor_files_nor_a_clock(file):
    top = {module.partition(".")[0] for module in imports_of(file)}
    assert top & ({"ray"} | IMPURE) == set()


@LEARNING
def test_learning_draws_no_global_random_numbers_and_opens_nothing(file):
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    allowed = {"np.random.default_rng", "np.random.Generator", "np.random.PCG64", "np.random.Philox", "np.random.SeedSequence"}
    assert {name for name in names if name.startswith("np.random.")} <= allowed
    assert names & {"open", "print", "input", "torch.rand", "torch.randn", "torch.save", "torch.load"} == set()


@LEARNING
def test_learning_seeds_torch_only_where_its_global_generator_is_put_back(file):
    """A model factory of the user's draws from torch's global generator; there is no other way to give it a seed."""
    tree = ast.parse(file.read_text())
    guarded = [
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.With) and any("fork_rng" in ast.unparse(item.context_expr) for item in block.items)
        for node in ast.walk(block)
    ]
    seeding = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.manual_seed"]
    assert [node for node in seeding if node not in guarded] == []


@ROLES
def test_the_roles_are_plain_classes_that_know_no_ray(file):
    assert "ray" not in {module.partition(".")[0] for module in imports_of(file)}


def test_roles_that_do_not_compute_with_torch_do_not_import_it():
    """It is seconds of every start, and 200 MB of every process."""
    light = "actors.ingestor, actors.replay_shard, actors.label_joiner, cluster.vitals"
    code = f"import sys, {light}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@ALL
def test_our_serve_is_never_hidden_by_rays(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ray":
            assert all(alias.name != "serve" or alias.asname == "ray_serve" for alias in node.names)


@pytest.mark.parametrize("folder", ["tests", "actors", "cluster", "serve"])
def test_no_module_takes_a_name_of_the_standard_library_where_scripts_would_find_it(folder):
    clashing = [file for file in (ROOT / folder).glob("*.py") if file.stem in sys.stdlib_module_names]
    assert clashing == []


def test_no_package_marker_lies_under_tests():
    assert list((ROOT / "tests").rglob("__init__.py")) == []
