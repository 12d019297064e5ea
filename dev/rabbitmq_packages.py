"""Where RabbitMQ comes from: this machine, or its distribution's packages in the user's cache."""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from dev.console import Failure, say

# All of Erlang that the server loads; the distribution's own dependencies bring in much more.
_ERLANG = (
    "base asn1 crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl "
    "syntax-tools tools xmerl"
)
_PACKAGES = ["rabbitmq-server", *(f"erlang-{part}" for part in _ERLANG.split())]

_THREE_WAYS = (
    "there are three ways to get one: set AMQP_URL to a server that runs already, install the "
    "package rabbitmq-server, or run this on Debian or Ubuntu with a network"
)


def find() -> tuple[Path, Path] | None:
    """Server and Erlang of this machine, or those that an earlier run fetched."""
    for root in (Path("/"), _cache() / "rabbitmq"):
        servers = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
        erlang = root / "usr/lib/erlang"
        if servers and erlang.exists():
            return servers[-1], erlang
    return None


def fetch() -> tuple[Path, Path]:
    """Unpack the distribution's packages into the user's cache; nothing is installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Failure(f"this machine has no RabbitMQ; {_THREE_WAYS}")
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not find():
            say("fetching RabbitMQ from the distribution's packages (32 MB, nothing is installed)")
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _download(Path(scratch))
                root = Path(scratch) / "root"
                for package in sorted(Path(scratch).glob("*.deb")):
                    _do(["dpkg-deb", "-x", str(package), str(root)], Path(scratch))
                root.rename(cache / "rabbitmq")
            say("RabbitMQ fetched")
    found = find()
    assert found
    return found


def _cache() -> Path:
    """Where fetched packages are unpacked, for each release of the distribution apart."""
    system = platform.freedesktop_os_release()
    # The specification says to ignore a relative path.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".cache"
    return base / "campaign-service" / f"{system['ID']}-{system.get('VERSION_ID', 'unstable')}"


def _download(folder: Path) -> None:
    """Let apt fetch and check the packages, with lists and settings of its own."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "apt.conf").write_text(
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::Cache "{folder}";\n'
        'APT::Sandbox::User "";\n'
        'Acquire::Languages "none";\n'
        'Acquire::Retries "2";\n'
    )
    _do(["apt-get", "update"], folder)
    _do(["apt-get", "download", *_PACKAGES], folder)


def _do(command: list[str], folder: Path) -> None:
    environment = os.environ | {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-4:])
        raise Failure(
            f"RabbitMQ cannot be fetched ({' '.join(command[:2])} failed); {_THREE_WAYS}\n{said}"
        )
