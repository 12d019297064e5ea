"""The commands of `./run`."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dev import server
from dev.console import Failure, say
from dev.environment import ROOT

_BIN = Path(sys.executable).parent

_HELP = """\
commands:
  (none)      start PostgreSQL, RabbitMQ and the service, and say how to use them; Ctrl-C stops all
  test ...    run the tests on servers of their own; what follows goes to pytest;
              with 'faults', everything that breaks servers, links and processes under load,
              which takes minutes; what was observed goes to tests/faults/observed.json;
              with 'mutations', without the lines that these faults are survived by, one by one;
              what became of them goes to tests/faults/mutated.json
  check       check format, lint and types
  campaigns   run a command of the service against the running stack,
              as in: ./run campaigns events tail
  bench ...   measure how fast campaigns are created, beside other ways to write such a service;
              with 'processes', what a second process brings; with 'backlog', 'growth', 'pages',
              'startup' or 'templates', how fast other things are; with 'profile', what a create is
              busy with; with 'effort', how much work it is;
              figures go to bench/results/, bench/README.md and --help of each tell more
  lock        pin the newest allowed versions of all packages, with hashes

environment (none of it is needed):
  HTTP_HOST, HTTP_PORT   where the API listens (127.0.0.1, 8080)
  PROCESSES              how many processes share the port (1)
  DATABASE_URL           a PostgreSQL to use instead of a private one
  AMQP_URL               a RabbitMQ to use instead of a private one
  API_KEY                the development key (a random one that is kept)
  STATE_DIR              where data, logs and secrets are kept (.state)
"""

# Tests of a file may share a broker that takes seconds to start, so they stay together.
_FAULTS = ["tests/faults", "-n", "2", "--dist", "loadfile", "-v"]
_OBSERVED = ["--observed", "tests/faults/observed.json"]

# The first is what most want to know.
_BENCHES = (
    *("creates", "processes", "backlog", "growth", "pages", "startup", "templates"),
    *("profile", "effort"),
)


def main() -> int:
    """Run one command; answer the exit status of the process."""
    parser = argparse.ArgumentParser(
        prog="run",
        usage="./run [command] [arguments]",
        description="Run the campaign service, or work on it.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", nargs="?", choices=[name for name in _COMMANDS if name], help=argparse.SUPPRESS
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        return _COMMANDS[options.command](options.arguments)
    except (Failure, OSError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(_arguments: Sequence[str]) -> int:
    server.serve(os.environ)
    return 0


def _test(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["mutations"]:
        return _in_checkout("python", "-m", "tests.faults.mutations", *arguments[1:])
    if arguments[:1] == ["faults"]:
        return _in_checkout("pytest", *_FAULTS, *_OBSERVED, *arguments[1:])
    return _in_checkout("pytest", "-n", "auto", "-m", "not minutes", *arguments)


def _check(_arguments: Sequence[str]) -> int:
    shell = ["run", ".ci/run"]
    checks = [
        ("ruff", "format", "--check", "--quiet", "--diff"),
        ("ruff", "check", "--quiet"),
        ("mypy",),
        ("shellcheck", *shell),
        ("hadolint", "Dockerfile"),
    ]
    failed = [check[0] for check in checks if _in_checkout(*check)]
    if failed:
        raise Failure(f"not accepted by: {', '.join(failed)}")
    say("format, lint and types are right")
    return 0


def _bench(arguments: Sequence[str]) -> int:
    name, rest = _BENCHES[0], arguments
    if arguments and not arguments[0].startswith("-"):
        name, *rest = arguments
    if name not in _BENCHES:
        raise Failure(f"there is no benchmark {name!r}, only {', '.join(_BENCHES)}")
    return _in_checkout("python", "-m", f"bench.{name}", *rest)


def _campaigns(arguments: Sequence[str]) -> int:
    env_file = server.state_folder(os.environ) / "env"
    try:
        assignments = dict(word.split("=", 1) for word in shlex.split(env_file.read_text()))
    except FileNotFoundError:
        raise Failure(
            f"nothing runs on {env_file.parent}: start ./run in another terminal"
        ) from None
    address = urlsplit(assignments["URL"])
    # Which process `events status` is to ask.
    os.environ.update(assignments, HTTP_HOST=str(address.hostname), HTTP_PORT=str(address.port))
    os.execv(sys.executable, [*server.SERVICE, *arguments])


def _lock(_arguments: Sequence[str]) -> int:
    compile_ = ["uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--generate-hashes"]
    compile_ += ["--python-version", "3.11", "--no-emit-index-url", "--no-header", "--no-annotate"]
    service, dev = "requirements/service.txt", "requirements/dev.txt"
    peers = [*compile_, "--group", "bench", "--constraints", service]
    return (
        _in_checkout(*compile_, "pyproject.toml", "-o", service)
        or _in_checkout(
            *compile_, "pyproject.toml", "--group", "dev", "--constraints", service, "-o", dev
        )
        or _in_checkout(*peers, "-o", "requirements/bench.txt")
    )


def _in_checkout(program: str, *arguments: str) -> int:
    return subprocess.run([_BIN / program, *arguments], cwd=ROOT).returncode


_COMMANDS: dict[str | None, Callable[[Sequence[str]], int]] = {
    None: _serve,
    "test": _test,
    "check": _check,
    "bench": _bench,
    "campaigns": _campaigns,
    "lock": _lock,
}


if __name__ == "__main__":
    sys.exit(main())
