"""The command line: `campaigns` when installed, `python -m service` anywhere else."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg
import orjson
import structlog
import uvloop
from aiohttp import web

from service import (
    broker,
    key_commands,
    keys,
    listings,
    logs,
    migration,
    postgres,
    republish_command,
    server,
    settings,
    tail,
)
from service.app import create_app, create_relay_app
from service.failure import Failure
from service.settings import Settings

logger = structlog.get_logger(__name__)

# Ten years; whoever wants longer wants a key that does not end.
_MOST_DAYS = 3650


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answer the exit status of the process."""
    # In a container we are process 1, which the kernel ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _parser().parse_args(arguments)
    try:
        loaded = settings.load(os.environ)
        logs.configure(loaded)
        options.command(options, loaded)
    except KeyboardInterrupt:
        return 130
    except settings.SettingsError as error:
        return _failed(f"these settings are wrong: {error}")
    except postgres.Unavailable as error:
        return _failed(f"PostgreSQL cannot be used, check DATABASE_URL: {error}")
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return _failed("the database has no schema, or an old one: run 'campaigns migrate' first")
    except asyncpg.InsufficientPrivilegeError as error:
        return _failed(f"{_refusal(error)}; this needs the DATABASE_URL of the tables' owner")
    except asyncpg.PostgresError as error:
        return _failed(_refusal(error))
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not try to flush the rest of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Failure as error:
        return _failed(str(error))
    return 0


def _refusal(error: asyncpg.PostgresError) -> str:
    # Only its first line: the details may quote what was to be stored.
    return f"PostgreSQL refuses: {error.args[0].splitlines()[0]}"


def _failed(sentence: str) -> int:
    print(f"campaigns: {sentence}", file=sys.stderr)
    return 2


def _serve(options: argparse.Namespace, settings: Settings) -> None:
    _run(create_app(settings, with_relay=not options.no_relay), settings)


def _relay(_options: argparse.Namespace, settings: Settings) -> None:
    _run(create_relay_app(settings), settings)


def _run(app: web.Application, settings: Settings) -> None:
    logger.info("starting", settings=settings)
    uvloop.run(server.run(app, settings))


def _migrate(_options: argparse.Namespace, settings: Settings) -> None:
    async def migrate() -> None:
        async with postgres.connect(settings) as connection:
            await migration.migrate(connection)

    uvloop.run(migrate())
    print(f"The schema has revision {postgres.SCHEMA_REVISION}.")


def _tail_events(options: argparse.Namespace, settings: Settings) -> None:
    async def tail_events() -> None:
        async with tail.events(settings) as events:
            print("Waiting for events; stop with Ctrl-C.", file=sys.stderr, flush=True)
            async for body in events:
                print(body.decode() if options.json else _readable(body), flush=True)

    try:
        uvloop.run(tail_events())
    except BrokenPipeError:
        raise
    except broker.ERRORS as error:
        raise Failure(f"RabbitMQ cannot be used, check AMQP_URL: {error}") from error
    raise Failure("RabbitMQ closed the connection")


def _readable(body: bytes) -> str:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="campaigns",
        description="The campaign service. Settings come from the environment and "
        f"{settings.DEFAULT_FILE.name}, which lists them all; CONFIG_FILE names another file.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve = _command(commands, "serve", _serve, "run the API and its relay until SIGTERM or Ctrl-C")
    serve.add_argument(
        "--no-relay", action="store_true", help="the API only: 'campaigns relay' runs elsewhere"
    )
    _command(commands, "relay", _relay, "run a relay alone, with /healthz and /readyz, as long")
    _command(commands, "migrate", _migrate, "apply schema.sql; once more changes nothing")

    _add_key_commands(_group(commands, "keys", "manage API keys"))

    events_commands = _group(commands, "events", "look at events, or send them again")
    watch = _command(events_commands, "tail", _tail_events, "print events as they arrive")
    watch.add_argument("--json", action="store_true", help="one event a line, as published")
    _add_republish(events_commands)
    return parser


def _add_key_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    create = _command(commands, "create", key_commands.create, "make an API key and print it, once")
    create.add_argument("--name", metavar="TEXT", type=_words, required=True, help="what it is for")
    create.add_argument(
        "--scopes", nargs="+", choices=keys.SCOPES, default=keys.SCOPES, metavar="SCOPE",
        help=f"what it may do, of {', '.join(keys.SCOPES)} (all)",
    )  # fmt: skip
    create.add_argument(
        "--from-stdin", action="store_true", help="store the key on standard input instead"
    )
    show = _command(commands, "list", key_commands.list_, "show the keys of an organization")
    revoke = _command(commands, "revoke", key_commands.revoke, "end a key now")
    rotate = _command(commands, "rotate", key_commands.rotate, "replace a key by a new one")
    rotate.add_argument(
        "--grace-hours", type=_up_to(_MOST_DAYS * 24, minimum=0), default=24, metavar="N",
        help="how long the old key stays valid (24)",
    )  # fmt: skip
    for command in (create, show, revoke, rotate):
        command.add_argument(
            "--organization", metavar="N", type=_positive, required=True, help="whose key it is"
        )
    for command in (revoke, rotate):
        command.add_argument("--id", metavar="N", type=_positive, required=True, help="which key")
    for command in (create, rotate):
        command.add_argument(
            "--expires-in-days",
            type=_up_to(_MOST_DAYS, minimum=0.001),
            metavar="N",
            help="when the new key ends (never; after a rotation, after as long again)",
        )
    for command in (create, show, revoke, rotate):
        command.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _add_republish(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    again = _command(
        commands, "republish", republish_command.republish, "send events of the past again"
    )
    for name, place, text in (
        ("--from", "since", "of this time and later, as 2026-11-23T12:00:00Z"),
        ("--to", "until", "before this time"),
    ):
        again.add_argument(name, dest=place, metavar="TIME", type=_time, required=True, help=text)
    again.add_argument(
        "--type", dest="types", action="append", choices=broker.EVENT_TYPES, metavar="TYPE",
        help=f"only these, of {', '.join(broker.EVENT_TYPES)}; may be repeated (all)",
    )  # fmt: skip
    again.add_argument("--organization", metavar="N", type=_positive, help="only its events (all)")
    again.add_argument(
        "--rate", metavar="N", type=_up_to(10_000, minimum=0.1), default=100,
        help="events a second, at most (100)",
    )  # fmt: skip
    again.add_argument("--dry-run", action="store_true", help="send nothing, count only")
    again.add_argument("--json", action="store_true", help="one summary as JSON, for scripts")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace, Settings], None],
    summary: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=_sentence(summary))
    command.set_defaults(command=run)
    return command


def _group(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    group = commands.add_parser(name, help=summary, description=_sentence(summary))
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**63:
        raise argparse.ArgumentTypeError("give a number from 1 to 9223372036854775807")
    return number


def _up_to(maximum: float, minimum: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"give a number from {minimum:g} to {maximum:g}")
        return number

    return read


def _time(text: str) -> datetime:
    try:
        return listings.moment(text)
    except ValueError as error:
        example = "give a time with its zone, as 2026-11-23T12:00:00Z"
        raise argparse.ArgumentTypeError(example) from error


def _words(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("give it some words, in one line")
    return text.strip()


if __name__ == "__main__":
    sys.exit(main())
