"""The command ``inference-engine``. Light at import: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

EXIT_FAILED = 1
EXIT_PIPE = 141
"""128 + SIGPIPE, what a shell shows for a program whose reader has gone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    try:
        try:
            return _run(arguments)
        finally:  # also after --help, which ends by SystemExit
            sys.stdout.flush()
    except BrokenPipeError:  # `inference-engine models | head -1`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the interpreter flushes once more at its end
        return EXIT_PIPE


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options, unknown = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if options.command == "predict":  # argparse takes sources only where they follow the model at once
        options.sources += [text for text in unknown if text == "-" or not text.startswith("-")]
        unknown = [text for text in unknown if text not in options.sources]
    if unknown and options.command not in ("serve", "doctor"):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    from server.settings_load import EXIT_CONFIG, SettingsError, load_settings, unknown_flags

    if options.command == "key":
        from server.key_command import make_key

        return make_key(options.name, is_admin=options.admin, expires=options.expires)
    from server.settings import Settings

    chosen = vars(options).items()
    given = {name: value for name, value in chosen if name in Settings.model_fields and value is not None}
    if options.command == "predict":
        from server.predict.command import predict

        return predict(options, given)
    if options.command == "doctor" and not unknown:
        from server.doctor.command import doctor

        return doctor(given, as_json=options.as_json)
    try:
        if unknown:
            raise SettingsError(unknown_flags(unknown))
        settings = load_settings(given)
    except SettingsError as error:
        for line in error.lines:
            print(f"inference-engine: {line}", file=sys.stderr)
        return EXIT_CONFIG
    match options.command:
        case "serve":
            from server.serving import serve

            return serve(settings)
        case "pull":
            from server.weights_commands import pull

            return pull(settings, options.names)
        case "quantize":
            from server.quantisation import quantise

            return quantise(settings, options.name, options.images, options.max_images)
        case _:
            from server.weights_commands import list_models

            return list_models(settings)


def _parser() -> argparse.ArgumentParser:
    from server.predict.options import add_arguments
    from server.settings import Settings
    from server.settings_groups import GROUPS
    from server.settings_table import flag

    parser = argparse.ArgumentParser(
        prog="inference-engine", description="Serves YOLO and BLIP models over HTTP.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="start the server", allow_abbrev=False)
    doctor = commands.add_parser(
        "doctor", help="look for what is wrong; with the options of serve", allow_abbrev=False
    )
    doctor.add_argument("--json", dest="as_json", action="store_true", help="print one JSON document")
    for command in (serve, doctor):
        command.usage = f"{command.prog} [--help] [--SETTING VALUE ...]"
    predict = commands.add_parser("predict", help="ask a model about many images", allow_abbrev=False)
    predict.usage = f"{predict.prog} MODEL SOURCE ... [--SETTING VALUE ...]"
    add_arguments(predict)
    of_engine = predict.add_argument_group("settings of the engine that runs here, without --server")
    for title, name in ((title, name) for title, names in GROUPS.items() for name in names):
        field = Settings.model_fields[name]
        is_switch = field.annotation is bool
        text = (field.description or "").replace("%", "%%").replace("`", "")
        has_no_clients = name != "config" and title in ("Serving", "Access")
        targets = (serve, doctor) if has_no_clients else (serve, doctor, of_engine)
        for target in targets:
            if is_switch:
                target.add_argument(flag(name), action=argparse.BooleanOptionalAction, help=text)
            else:
                target.add_argument(flag(name), dest=name, metavar="VALUE", help=text)
    pull = commands.add_parser("pull", help="download the weights of models", allow_abbrev=False)
    pull.add_argument("names", nargs="+", metavar="MODEL")
    models = commands.add_parser("models", help="list the models that can be served", allow_abbrev=False)
    quantise = commands.add_parser(
        "quantize", help="make a YOLO model's network for precision int8", allow_abbrev=False
    )
    quantise.add_argument("name", metavar="MODEL")
    quantise.add_argument(
        "--images", metavar="FOLDER", type=Path, required=True, help="pictures as the model will see"
    )
    quantise.add_argument(
        "--max-images", metavar="N", type=_positive, default=300, help="use no more of them (default 300)"
    )
    key = commands.add_parser(
        "key", help="make an API key, and its line of the keys file", allow_abbrev=False
    )
    key.add_argument("name", metavar="NAME", help="whose it is; stands in the log")
    key.add_argument("--admin", action="store_true", help="may also load, unload and reload models")
    key.add_argument(
        "--expires", metavar="DATE", type=_date, help="not valid from the beginning of this day on (UTC)"
    )
    for command in (pull, models, quantise):
        command.add_argument(
            "--config", metavar="FILE", help="settings file, else engine.toml where it exists"
        )
    return parser


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a date like 2027-01-31") from None


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
