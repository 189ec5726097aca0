"""`inference-engine predict`, from its arguments to its exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import uvloop

from server.client import AsyncClient, InferenceError
from server.devices import NoSuchDeviceError
from server.log import configure_log
from server.predict.engine import local_engine, remote_engine, say
from server.predict.options import PredictOptions, UsageError, checked
from server.predict.output import Output, OutputError
from server.predict.pictures import PictureFolder
from server.predict.run import HopelessError, Run
from server.settings import Settings
from server.settings_load import EXIT_CONFIG, SettingsError, api_key, load_settings
from server.weights_commands import EXIT_INTERRUPTED, known_or_told

EXIT_FAILED = 1
EXIT_USAGE = 2
_USAGE = ("invalid_parameter", "unknown_field", "model_not_found")
"""Codes of what was wrong with the command line."""


def predict(given: argparse.Namespace, settings_given: Mapping[str, Any]) -> int:
    """Ask about every source. The exit code: 0 if all have answers, 1 if any failed, 2 for wrong arguments, 78 for
    wrong settings, 130 after Ctrl-C. Raises BrokenPipeError."""
    try:
        options = checked(given)
        settings = None if options.server else load_settings(settings_given)
        if settings is not None and not _is_known(settings, options.model):
            return EXIT_USAGE
        pictures = PictureFolder(options.pictures) if options.pictures else None
        output = Output(options.output, options.output_format, options.model, resumes=options.resumes)
    except (UsageError, OutputError) as error:
        say(str(error))
        return EXIT_USAGE
    except SettingsError as error:
        for line in error.lines:
            say(line)
        return EXIT_CONFIG
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_predict(options, settings, output, pictures))


def _is_known(settings: Settings, model: str) -> bool:
    known = known_or_told(settings)
    if known is not None and model not in known:
        say(f"no model {model}; known are {', '.join(known)}")
    return known is not None and model in known


async def _predict(
    options: PredictOptions, settings: Settings | None, output: Output, pictures: PictureFolder | None
) -> int:
    """In the event loop, which Ctrl-C cancels this in."""
    try:
        with output:
            async with _engine(options, settings) as client:
                run = Run(options, client, output, pictures)
                await run.go()
        return EXIT_FAILED if run.num_failed else 0
    except asyncio.CancelledError:
        rest = "; --resume goes on from there" if options.output else ""
        say(f"interrupted{rest}")
        sys.stdout.flush()
        # At once, now that all is written and every process has ended: a thread may wait for standard input.
        os._exit(EXIT_INTERRUPTED)
    except (SettingsError, NoSuchDeviceError) as error:
        say(str(error))
        return EXIT_CONFIG
    except HopelessError as error:
        say(f"{error.source}: {error.cause.message} ({error.cause.code})")
        return _exit_code(error.cause)
    except InferenceError as error:
        say(f"{error.message} ({error.code})")
        return _exit_code(error)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # the output's disk, or an address that is none
        say(str(error))
        return EXIT_FAILED if isinstance(error, OSError) else EXIT_USAGE


def _exit_code(error: InferenceError) -> int:
    return EXIT_USAGE if error.code in _USAGE else EXIT_FAILED


def _engine(
    options: PredictOptions, settings: Settings | None
) -> contextlib.AbstractAsyncContextManager[AsyncClient]:
    if settings is None:
        assert options.server is not None
        return remote_engine(options.server, api_key(), options.model)
    level = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    configure_log(settings.log_format, level)
    return local_engine(settings, options.model)
