"""What README.md points to is there: headings, files, commands with their flags, variables, make targets, modules."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

import pytest

from server.cli import _parser
from server.settings import Settings
from server.settings_load import API_KEY, variable_names

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
CODE = [
    *(line for block in re.findall(r"^```\w*\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL) for line in block.split("\n")),
    *re.findall(r"`([^`]+)`", PROSE),
]  # fmt: skip
"""Lines of blocks, and what stands between backticks in the text."""


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = [each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(action.choices)


def test_every_link_within_the_readme_leads_to_a_heading() -> None:
    headings = {slug(heading) for heading in re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)}
    linked = set(re.findall(r"\]\(#([^)]+)\)", PROSE))

    assert len(linked) > 15
    assert linked - headings == set()


def test_every_heading_is_there_once() -> None:
    slugs = [slug(heading) for heading in re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)]

    assert sorted(slugs) == sorted(set(slugs))


def test_every_linked_file_and_every_path_that_is_named_exists() -> None:
    linked = set(re.findall(r"\]\((?!#|https?:)([^)#]+)", PROSE))
    named = {
        word
        for text in CODE
        for word in re.findall(r"(?<![\w/.@=-])(?:server|pool|models|tests|bench|deploy)/[\w./-]*\w", text)
    }

    assert len(linked) > 4 and len(named) > 15
    assert {path for path in linked | named if not (ROOT / path).exists()} == set()


def test_every_command_and_flag_that_is_named_exists() -> None:
    commands = subcommands()
    seen = 0
    for text in CODE:
        for name, rest in re.findall(r"(?:^|[\s/(])inference-engine ([a-z]+)((?: [^#|>]*)?)", text):
            assert name in commands, text
            flags = re.findall(r"(?<=\s)(--[a-z][a-z-]*)", rest)
            assert set(flags) <= set(commands[name]._option_string_actions), text
            seen += 1

    assert seen > 15


def test_every_variable_of_ours_that_is_named_is_a_setting_or_one_of_the_compose_files() -> None:
    known = {
        variable for name, field in Settings.model_fields.items() for variable in variable_names(name, field)
    } | {API_KEY}
    for compose in ROOT.glob("docker-compose*.yml"):
        known |= set(re.findall(r"\$\{(ENGINE_\w+)", compose.read_text()))
    named = set(re.findall(r"\bENGINE_[A-Z_]+\b", TEXT))

    assert {"ENGINE_DEVICE", "ENGINE_PORT", "ENGINE_CPUS"} <= named
    assert named - known == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in CODE for target in re.findall(r"(?:^|\s)make ([a-z-]+)", text)}

    assert {"serve", "test", "bench", "lock"} <= named
    assert named - targets == set()


def test_every_module_that_is_run_exists() -> None:
    named = {name for text in CODE for name in re.findall(r"python -m ((?:server|bench)[\w.]*)", text)}
    paths = {name: ROOT / name.replace(".", "/") for name in named}

    assert len(named) > 5
    missing = [
        name for name, path in paths.items() if not path.with_suffix(".py").exists() and not path.is_dir()
    ]
    assert missing == []


def test_every_example_of_settings_is_accepted() -> None:
    blocks = [
        tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    ]
    keys, examples = (
        [each for each in blocks if "alice" in each],
        [each for each in blocks if "alice" not in each],
    )

    assert (len(keys), len(examples) > 2) == (1, True)
    for example in examples:
        assert Settings(**example).model_fields_set >= example.keys()


@pytest.mark.parametrize("limit", ["client_max_body_size 28m", "max_size 28MiB"])
def test_the_proxies_of_the_examples_let_the_largest_body_through(limit: str) -> None:
    assert limit in TEXT
    assert Settings.model_fields["max_json_bytes"].default == 28 * 2**20
