import argparse
import re
from pathlib import Path

import pytest

from cluster.cli import _parser
from cluster.config import documented_keys
from cluster.config_text import page_of

ROOT = Path(__file__).parents[2]
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text()


def commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--") and flag != "--help"]


def test_the_reference_page_is_what_make_docs_writes():
    assert (ROOT / "docs" / "configuration.md").read_text() == page_of(documented_keys()), "run `make docs`"


@pytest.mark.parametrize("key", documented_keys(), ids=lambda key: f"{key.path}-{key.variant}")
def test_every_key_says_what_it_means_in_a_sentence(key):
    assert re.search(r"\w.*[.]$", key.description), f"{key.path}: {key.description!r}"


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_and_every_option_is_documented(command):
    assert f"## perennial {command}\n" in CLI_PAGE
    assert [flag for flag in flags_of(commands()[command]) if f"{flag}" not in CLI_PAGE] == []


def test_no_option_is_documented_that_does_not_exist():
    known = {flag for parser in commands().values() for flag in flags_of(parser)}
    documented = set(re.findall(r"^\| `(--[a-z-]+)", CLI_PAGE, re.M))
    assert documented <= known


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "ray_config.yaml"])
def test_every_override_shown_is_a_key(page):
    paths = {key.path for key in documented_keys()}
    shown = set(re.findall(r"--set '?([a-z_.]+)=", (ROOT / page).read_text()))
    assert shown - paths - {"a.b"} == set()


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "docs/configuration.md"])
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_every_file_that_the_readme_names_is_there():
    named = re.findall(r"`((?:actors|cluster|serve|docs)/[a-z_/.]+)`", (ROOT / "README.md").read_text())
    assert named and [file for file in named if not (ROOT / file).exists()] == []
