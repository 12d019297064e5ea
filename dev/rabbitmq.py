"""A private RabbitMQ: real, on a free port of the loopback address, gone when we are."""

import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dev.console import Failure
from dev.folders import secret, server_folder, write_private
from dev.processes import Child, steady_port
from dev.rabbitmq_packages import fetch, find

_USER = "campaigns"
_NODE = "rabbit@localhost"


class RabbitMQ:
    """One node with its data below `state`; while it lives it holds the files `keep_open`."""

    def __init__(self, state: Path, keep_open: Sequence[int] = ()) -> None:
        self._keep_open = keep_open
        self.folder = server_folder(state, "rabbitmq", None)
        self._server, self._erlang = find() or fetch()
        self._password = secret(self.folder / "password")

    def start(self) -> None:
        """Start the node; it needs some seconds until `wait` returns."""
        for name in ("port", "distribution-port"):
            steady_port(self.folder / name)
        self._write_files()
        self.child = Child(
            "RabbitMQ",
            [self._server / "sbin" / "rabbitmq-server"],
            environment=self._environment() | self._server_environment(),
            folder=self.folder,
            ends_by=signal.SIGTERM,
            boots_deaf=True,
            log=self.folder / "rabbitmq.log",
            keep_open=self._keep_open,
        )

    @property
    def url(self) -> str:
        """Address of the first virtual host, with the password."""
        return f"amqp://{_USER}:{self._password}@127.0.0.1:{self._port('port')}/"

    def _port(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def wait(self) -> None:
        """Return when the node takes connections.

        Raises:
            Failure: it does not start; with the end of its log.
        """
        self.child.wait_until(self._is_ready, seconds=90)

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on the node of this folder, whoever started it; answer what it prints.

        Raises:
            Failure: with what it said.
        """
        port = self._port("distribution-port")
        connect = f"-dist_listen false -start_epmd false -erl_epmd_port {port}"
        done = subprocess.run(
            [self._server / "sbin" / "rabbitmqctl", "--quiet", *arguments],
            env=self._environment() | {"RABBITMQ_CTL_ERL_ARGS": connect},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise Failure(f"rabbitmqctl {arguments[0]} failed: {done.stderr or done.stdout}")
        return done.stdout

    def _is_ready(self) -> bool:
        """Whether the node answers a client's greeting; the port opens somewhat earlier."""
        try:
            with socket.create_connection(("127.0.0.1", self._port("port")), timeout=5) as client:
                client.sendall(b"AMQP\x00\x00\x09\x01")
                return client.recv(1) == b"\x01"
        except OSError:
            return False

    def _write_files(self) -> None:
        home = self.folder / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, secret(self.folder / "cookie"))
        (self.folder / "enabled_plugins").write_text("[].\n")
        write_private(
            self.folder / "rabbitmq.conf",
            f"default_user = {_USER}\n"
            f"default_pass = {self._password}\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            "log.file = false\n"
            # The default wants as much free disk as there is memory.
            "disk_free_limit.absolute = 50MB\n",
        )
        (self.folder / "bin").mkdir(exist_ok=True)
        erl = self.folder / "bin" / "erl"
        runtime = max(self._erlang.glob("erts-*"))
        # Erlang's own script has the folder built in that the packages would be installed to.
        erl.write_text(
            "#!/bin/sh\n"
            f"ROOTDIR={shlex.quote(str(self._erlang))} BINDIR={shlex.quote(str(runtime / 'bin'))}\n"
            "export ROOTDIR BINDIR EMU=beam PROGNAME=erl\n"
            'exec "$BINDIR/erlexec" "$@"\n'
        )
        erl.chmod(0o755)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": _NODE,
            # Settings of a RabbitMQ that the machine has are not for ours.
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
        }

    def _server_environment(self) -> dict[str, str]:
        """Everything in our folder, on the loopback address, without Erlang's shared epmd."""
        port = self._port("distribution-port")
        return {
            # The server's script then becomes the Erlang machine, so our child is the node itself.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODE_PORT": str(self._port("port")),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "feature_flags"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-sname {_NODE} -start_epmd false -erl_epmd_port {port} "
                f"-kernel inet_dist_listen_min {port} -kernel inet_dist_listen_max {port} "
                "-kernel inet_dist_use_interface {127,0,0,1} "
                # Or its threads look for work for a while before they sleep, on cores that they
                # share with all else here (https://www.rabbitmq.com/docs/runtime).
                "+sbwt none +sbwtdcpu none +sbwtdio none "
                # RabbitMQ binds each of those threads to a core, which is meant for a machine of
                # its own (https://www.erlang.org/doc/apps/erts/erl_cmd): here, they would wait for
                # others on theirs while another core has nothing to do.
                "+sbt u"
            ),
        }
