"""The arguments of `inference-engine predict` beside the settings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.predict.sources import STDIN, Sources

DEFAULT_CONCURRENCY = 16
MAX_CONCURRENCY = 100


class UsageError(Exception):
    """Arguments that cannot be meant."""


@dataclass(frozen=True)
class PredictOptions:
    """What was asked for, checked."""

    model: str
    sources: Sources
    server: str | None
    parameters: Mapping[str, Any]
    output_format: str
    output: Path | None
    pictures: Path | None
    resumes: bool
    is_quiet: bool
    concurrency: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="as `inference-engine models` or the server's GET /models lists it")
    add(
        "sources",
        metavar="SOURCE",
        nargs="*",
        help="file, folder, pattern, http or https address; - for an image's bytes on standard input",
    )
    add("--from-file", metavar="FILE", help="take more sources from FILE, one a line; - for standard input")
    add("--recursive", action="store_true", help="look into folders within folders too")
    add(
        "--server",
        metavar="URL",
        help="ask this server instead of loading the model here; its key from ENGINE_API_KEY",
    )
    add("--confidence", metavar="C", type=float, help="least confidence of a prediction")
    add("--iou", metavar="O", type=float, help="overlap above which two boxes count as one")
    add("--prompt", metavar="TEXT", action="append", help="question or beginning; may be repeated")
    add(
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other parameter of the model's task; may be repeated",
    )
    add("--format", dest="output_format", choices=("jsonl", "csv"), default="jsonl", help="default: jsonl")
    add("--output", metavar="FILE", type=Path, help="write there instead of to standard output")
    add(
        "--save-pictures",
        metavar="FOLDER",
        type=Path,
        help="draw the answers into copies; the output names them",
    )
    add("--resume", action="store_true", help="go on with FILE: skip what has its answer there")
    add("--quiet", action="store_true", help="no progress on standard error")
    add(
        "--concurrency",
        metavar="N",
        type=int,
        default=DEFAULT_CONCURRENCY,
        help=f"pictures under way at once (default {DEFAULT_CONCURRENCY})",
    )


def checked(given: argparse.Namespace) -> PredictOptions:
    """The options of parsed arguments. Raises UsageError."""
    if not given.sources and given.from_file is None:
        raise UsageError("give a SOURCE or --from-file")
    if given.resume and given.output is None:
        raise UsageError("--resume needs --output")
    if [*given.sources, given.from_file].count(STDIN) > 1:
        raise UsageError("standard input can be one source only")
    if given.from_file not in (None, STDIN) and not Path(given.from_file).exists():
        raise UsageError(f"--from-file {given.from_file}: no such file")
    if not 1 <= given.concurrency <= MAX_CONCURRENCY:
        raise UsageError(f"--concurrency must be 1 to {MAX_CONCURRENCY}")
    if given.save_pictures is not None:
        if given.output_format != "jsonl":
            raise UsageError("--save-pictures and --format csv do not go together")
        _check_is_outside(given.save_pictures, given.sources, given.recursive)
    return PredictOptions(
        model=given.model,
        sources=Sources(given.sources, given.from_file, given.recursive),
        server=given.server,
        parameters=_parameters(given),
        output_format=given.output_format,
        output=given.output,
        pictures=given.save_pictures,
        resumes=given.resume,
        is_quiet=given.quiet,
        concurrency=given.concurrency,
    )


def _check_is_outside(pictures: Path, sources: list[str], is_recursive: bool) -> None:
    """What is drawn must not become a source of the same run."""
    target = pictures.resolve()
    for folder in (Path(name).resolve() for name in sources if Path(name).is_dir()):
        if target == folder or (is_recursive and folder in target.parents):
            raise UsageError(f"--save-pictures {pictures} lies in a source; choose a folder beside it")


def _parameters(given: argparse.Namespace) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for text in given.parameter:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--parameter {text}: must be NAME=VALUE")
        parameters[name] = _value(name, value)
    prompts = given.prompt or []
    own = {"confidence": given.confidence, "iou": given.iou}
    own |= {"prompt": prompts[0]} if len(prompts) == 1 else {"prompts": prompts or None}
    return parameters | {name: value for name, value in own.items() if value is not None}


def _value(name: str, text: str) -> Any:
    """A number where it is one; the engine checks the rest."""
    if name == "classes":
        return [_value("", part) for part in text.split(",")]
    try:
        number = json.loads(text)
    except ValueError:
        return text
    return number if type(number) in (int, float) else text
