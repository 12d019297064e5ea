"""The calls of the published page, changed in host and key only, as its readers would run them."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.postgres import Connection
from tests.conftest import Client

SNIPPETS = Path(__file__).parent / "snippets"


@pytest.mark.parametrize(
    ("snippet", "command"),
    [
        ("create.sh", ["sh", "-c"]),
        ("create.py", [sys.executable, "-c"]),
        ("create.js", ["node", "--input-type=module", "--eval"]),
    ],
)
async def test_a_published_snippet_creates_the_campaign(
    client: Client, api_key: str, connection: Connection, snippet: str, command: list[str]
) -> None:
    needed = "curl" if snippet == "create.sh" else command[0]
    if not shutil.which(needed):
        pytest.skip(f"{needed} is not installed here, so {snippet} was not run")
    source = (SNIPPETS / snippet).read_text()
    assert (source.count("https://api.burki.dev"), source.count("YOUR_API_KEY")) == (1, 1)
    source = source.replace("https://api.burki.dev", str(client.make_url("")).rstrip("/"))
    source = source.replace("YOUR_API_KEY", api_key)

    done = await asyncio.to_thread(
        subprocess.run, [*command, source], capture_output=True, text=True, timeout=30
    )
    row = await connection.fetchrow("SELECT * FROM campaigns")
    assert done.returncode == 0, done.stderr
    assert row is not None
    assert str(row["id"]) in done.stdout
    assert row["name"] == "February Appointment Reminders"
    assert row["welcome_message_template"].startswith("Hi {{name|title_case}}")
