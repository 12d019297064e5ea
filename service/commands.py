"""The commands of `campaigns`, their options, and what they say of themselves."""

import argparse
from collections.abc import Callable

from service import (
    arguments,
    key_commands,
    keys,
    parked_commands,
    republish_command,
    serve_commands,
    settings,
    status_command,
    tail_command,
    topology,
)
from service.settings import Settings

# Ten years; whoever wants longer wants a key that does not end.
_MOST_DAYS = 3650

# Parked events in one table.
_MOST_PARKED = 10_000


def parser() -> argparse.ArgumentParser:
    campaigns = argparse.ArgumentParser(
        prog="campaigns",
        description="The campaign service. Settings come from the environment and "
        f"{settings.DEFAULT_FILE.name}, which lists them all; CONFIG_FILE names another file.",
    )
    commands = campaigns.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve = _command(
        commands, "serve", serve_commands.serve, "run the API and its relay until SIGTERM or Ctrl-C"
    )
    serve.add_argument(
        "--no-relay", action="store_true", help="the API only: 'campaigns relay' runs elsewhere"
    )
    _command(
        commands,
        "relay",
        serve_commands.relay,
        "run a relay alone, with /healthz and /readyz, as long",
    )
    _command(
        commands, "migrate", serve_commands.migrate, "apply schema.sql; once more changes nothing"
    )

    _add_key_commands(_group(commands, "keys", "manage API keys"))

    events_commands = _group(commands, "events", "look at events, or send them again")
    watch = _command(events_commands, "tail", tail_command.watch, "print events as they arrive")
    watch.add_argument("--json", action="store_true", help="one event a line, as published")
    _add_status(events_commands)
    _add_parked_commands(_group(events_commands, "parked", "manage events that are given up"))
    _add_republish(events_commands)
    return campaigns


def _add_key_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    create = _command(commands, "create", key_commands.create, "make an API key and print it, once")
    create.add_argument(
        "--name", metavar="TEXT", type=arguments.words, required=True, help="what it is for"
    )
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
        "--grace-hours", type=arguments.up_to(_MOST_DAYS * 24, minimum=0), default=24, metavar="N",
        help="how long the old key stays valid (24)",
    )  # fmt: skip
    for command in (create, show, revoke, rotate):
        command.add_argument(
            "--organization",
            metavar="N",
            type=arguments.positive,
            required=True,
            help="whose key it is",
        )
    for command in (revoke, rotate):
        command.add_argument(
            "--id", metavar="N", type=arguments.positive, required=True, help="which key"
        )
    for command in (create, rotate):
        command.add_argument(
            "--expires-in-days",
            type=arguments.up_to(_MOST_DAYS, minimum=0.001),
            metavar="N",
            help="when the new key ends (never; after a rotation, after as long again)",
        )
    for command in (create, show, revoke, rotate):
        command.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _add_status(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    status = _command(
        commands, "status", status_command.show, "tell how outbox, queues and a process fare"
    )
    status.epilog = status_command.EXIT_STATUS
    status.add_argument(
        "--url", metavar="URL", type=arguments.web_address,
        help="the process to ask, with its relay (HTTP_HOST and HTTP_PORT of the settings)",
    )  # fmt: skip
    status.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _add_parked_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    table = _command(commands, "list", parked_commands.list_, "show parked events, oldest first")
    table.add_argument(
        "--limit", metavar="N", type=arguments.at_most(_MOST_PARKED), default=50,
        help="how many, at most (50)",
    )  # fmt: skip
    show = _command(commands, "show", parked_commands.show, "show all of a parked event")
    replay = _command(commands, "replay", parked_commands.replay, "let the relay try again")
    discard = _command(commands, "discard", parked_commands.discard, "delete a parked event")
    chosen = replay.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--all", action="store_true", help="all that are parked")
    discard.add_argument("--yes", action="store_true", help="without it, only tell what it means")
    for command, required in ((show, True), (chosen, False), (discard, True)):
        command.add_argument(
            "--event-id", metavar="UUID", type=arguments.event_id, required=required,
            help="which event",
        )  # fmt: skip
    for parser in (table, show, replay, discard):
        parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _add_republish(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    again = _command(
        commands, "republish", republish_command.republish, "send events of the past again"
    )
    for name, place, text in (
        ("--from", "since", "of this time and later, as 2026-11-23T12:00:00Z"),
        ("--to", "until", "before this time"),
    ):
        again.add_argument(
            name, dest=place, metavar="TIME", type=arguments.time, required=True, help=text
        )
    again.add_argument(
        "--type", dest="types", action="append", choices=topology.EVENT_TYPES, metavar="TYPE",
        help=f"only these, of {', '.join(topology.EVENT_TYPES)}; may be repeated (all)",
    )  # fmt: skip
    again.add_argument(
        "--organization", metavar="N", type=arguments.positive, help="only its events (all)"
    )
    again.add_argument(
        "--rate", metavar="N", type=arguments.up_to(10_000, minimum=0.1), default=100,
        help="events a second, at most (100)",
    )  # fmt: skip
    again.add_argument("--dry-run", action="store_true", help="send nothing, count only")
    again.add_argument("--json", action="store_true", help="one summary as JSON, for scripts")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace, Settings], int | None],
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
