"""The command line: `campaigns` when installed, `python -m service` anywhere else."""

import os
import signal
import sys
from collections.abc import Sequence

import asyncpg

from service import commands, logs, postgres, settings
from service.failure import Failure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answer the exit status of the process."""
    # In a container we are process 1, which the kernel ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = commands.parser().parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
