"""A real SLURM on this one host, of Debian's packages: fetched, started and stopped; nothing is installed.

``python tests/slurm/server.py FOLDER`` starts one, prints the environment to use it with, and stops
it at Ctrl-C.
"""

import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "munge",
    "libmunge2",
    "libhwloc15",
    "liblua5.1-0",
)
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other}
AuthType=auth/none
AuthInfo=cred_expire=8
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
MinJobAge=3600
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=60 State=UP
"""


class UnavailableError(Exception):
    """Why there can be no SLURM here, in a sentence."""


class Server:
    """SLURM's two daemons and the environment in which its commands find them.

    Args:
        folder: everything lies below it.
        cores: that the node says it has.
    """

    def __init__(self, folder: Path, *, cores: int = 2) -> None:
        self.folder, self.cores = folder, cores
        self.root = folder / "root"
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.host = socket.gethostname().split(".")[0]

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to use this SLURM."""
        usr = self.root / "usr"
        libraries = [str(path) for path in (usr / "lib").glob("*-linux-gnu*")]
        libraries += [f"{path}/slurm-wlm" for path in libraries]
        mine = {
            "PATH": f"{usr}/bin:{usr}/sbin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(
                ":"
            ),
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        return {**os.environ, **mine}

    def start(self) -> None:
        """Fetch, configure, start; back when the node is idle.

        Raises:
            UnavailableError: if the packages cannot be fetched or the daemons do not start.
        """
        self._fetch()
        self._configure()
        conf = ["-D", "-f", str(self.folder / "slurm.conf")]
        programs = {
            name: f"{self.root}/usr/sbin/{name}-wlm"
            for name in ("slurmctld", "slurmd", "slurmstepd")
        }
        self._daemon([programs["slurmctld"], *conf])
        self._daemon([programs["slurmd"], *conf, "-d", programs["slurmstepd"]])
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle":
                return
            time.sleep(0.5)
        logs = "".join(path.read_text()[-500:] for path in self.folder.glob("slurm*.log"))
        self.stop()
        raise UnavailableError(f"SLURM did not start within five minutes: {logs}")

    def stop(self) -> None:
        """End all jobs and both daemons."""
        if self.daemons:
            self.ask("scancel", "--user", pwd.getpwuid(os.getuid()).pw_name)
            time.sleep(1)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
        self.daemons = []

    def ask(self, *command: str) -> str:
        """A SLURM command's output, its errors too."""
        run = subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return run.stdout

    def begin(self, *command: str) -> None:
        """Start a SLURM command, and do not wait for it."""
        subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _fetch(self) -> None:
        if (
            platform.system() != "Linux"
            or shutil.which("apt-get") is None
            or shutil.which("dpkg") is None
        ):
            raise UnavailableError("needs Debian's apt-get, which is not here")
        debs = self.folder / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        if len(list(debs.glob("*.deb"))) < len(PACKAGES):
            run = subprocess.run(
                ["apt-get", "download", *PACKAGES],
                cwd=debs,
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode and os.getuid() == 0:  # a fresh container has no package lists yet
                subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
                run = subprocess.run(
                    ["apt-get", "download", *PACKAGES],
                    cwd=debs,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            if run.returncode:
                raise UnavailableError(f"apt-get download: {run.stderr.strip().splitlines()[-1]}")
        for deb in debs.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(deb), str(self.root)], check=True)

    def _configure(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(exist_ok=True)
        ports = free_ports(2)
        (plugins,) = (self.root / "usr" / "lib").glob("*/slurm-wlm")
        text = CONF.format(
            host=self.host,
            port=ports[0],
            other=ports[1],
            user=pwd.getpwuid(os.getuid()).pw_name,
            plugins=plugins,
            folder=self.folder,
            cores=self.cores,
        )
        (self.folder / "slurm.conf").write_text(text)

    def _daemon(self, command: list[str]) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self.daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
            )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    server = Server(Path(sys.argv[1]).resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server.start()
    for name in ("PATH", "LD_LIBRARY_PATH", "SLURM_CONF"):
        print(f"export {name}={server.environment[name]}")  # noqa: T201
    try:
        signal.pause()
    finally:
        server.stop()
