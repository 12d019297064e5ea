"""Folders and secrets of the private servers."""

import hashlib
import os
import secrets
from pathlib import Path

from dev.processes import User

# PostgreSQL's paths end at 1,024 bytes (MAXPGPATH), and it needs some for its own folders.
_LONGEST = 600


def is_too_long(path: Path) -> bool:
    """Whether a server could not work with its files there."""
    return len(os.fsencode(path)) > _LONGEST


def server_folder(state: Path, name: str, user: User | None) -> Path:
    """Where a server keeps its files: in `state`, or outside if it could not work there.

    Private to us, or for a server of another `user` open to pass through. The folder outside is in
    one that nobody else may write to, so nobody can put a link in its place.
    """
    wanted = state / name
    mode = 0o711 if user else 0o700
    _make(wanted, mode)
    awkward = is_too_long(wanted) or os.pathsep in str(wanted)
    if not awkward and (user is None or user.can_reach(wanted)):
        return wanted
    key = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    home = Path("/var/lib") if os.geteuid() == 0 else Path.home() / ".local" / "share"
    outside = home / "campaign-service" / key
    _make(outside.parent, 0o711)
    _make(outside, mode)
    (wanted / "is-at").write_text(f"{outside}\n")
    return outside


def _make(folder: Path, mode: int) -> None:
    """Make a folder of this mode, whatever the umask is."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(mode)


def secret(file: Path) -> str:
    """The secret in `file`, made at the first call and readable by its owner only."""
    if not file.exists():
        # Hexadecimal: no command takes it for an option, as it would what begins with a dash.
        write_private(file, secrets.token_hex(32))
    return file.read_text()


def write_private(file: Path, text: str) -> None:
    """Put `text` into `file` at once, never readable by others."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    new.rename(file)
