"""What a person or a script needs to talk to a running stack."""

import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.environment import ROOT

# The example of the published documentation; README and tests use the same file.
EXAMPLE = ROOT / "dev" / "example.json"

DEFAULT_STATE = ROOT / ".state"


@dataclass(frozen=True)
class Addresses:
    """Where a stack is, and what opens it."""

    url: str
    api_key: str
    database_url: str
    amqp_url: str

    def assignments(self) -> str:
        """Text for a shell. Nothing is exported: a later `./run` in the same shell would take the
        addresses for servers that it is to use."""
        return "".join(
            f"{name.upper()}={shlex.quote(value)}\n" for name, value in asdict(self).items()
        )

    def banner(self, state: Path) -> str:
        """What a person who starts a stack wants to do next, ready to paste."""
        run = os.path.relpath(ROOT / "run")
        run = run if "/" in run else f"./{run}"
        elsewhere = "" if state == DEFAULT_STATE else f"STATE_DIR={shlex.quote(str(state))} "
        return f"""
  The campaign service is at {self.url}
  Your API key is            {self.api_key}

  Create a campaign:

curl -i {self.url}/api/v1/campaigns -H 'Content-Type: application/json' \\
  -H {shlex.quote(f"Authorization: Bearer {self.api_key}")} --data-binary @- <<'END'
{EXAMPLE.read_text()}END

  Watch the events arrive, in another terminal:

{elsewhere}{shlex.quote(run)} campaigns events tail

  Addresses and passwords for psql or a consumer:  . {shlex.quote(str(state / "env"))}
  Stop with Ctrl-C; the data stays.
"""
