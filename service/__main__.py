"""The command line: `campaigns` when installed, `python -m service` anywhere else."""

import os
import signal
import sys
from collections.abc import Sequence

from service import commands, failure, logs, settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answer the exit status of the process."""
    # In a container we are process 1, which the kernel ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = commands.parser().parse_args(arguments)
    try:
        loaded = settings.load(os.environ)
        logs.configure(loaded)
        return options.command(options, loaded) or 0
    except KeyboardInterrupt:
        return 130
    except settings.SettingsError as error:
        return _failed(f"these settings are wrong: {error}")
    except failure.OF_DATABASE as error:
        return _failed(failure.of_database(error))
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not try to flush the rest of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except failure.Failure as error:
        return _failed(str(error))


def _failed(sentence: str) -> int:
    # In one piece even where output is not buffered, as several processes write to one log.
    sys.stderr.write(f"campaigns: {sentence}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
