"""A SLURM of one node on this machine, from Debian's packages: munge, slurmctld, slurmd, slurm-client."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")


class NoSlurmError(RuntimeError):
    """The reason why SLURM cannot be started here."""


@contextlib.contextmanager
def single_node_slurm(folder: Path) -> Iterator[Path]:
    """Start it; the slurm.conf for ``SLURM_CONF``.

    Args:
        folder: for its files; new.

    Raises:
        NoSlurmError: programs or rights are missing, or it does not come up.
    """
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"  # where Debian has the daemons
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise NoSlurmError(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        raise NoSlurmError("its daemons need root")
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        socket_file = _start_munge(stack, folder)
        conf = _write_conf(folder, socket_file)
        environment = os.environ | {"SLURM_CONF": str(conf)}
        for daemon in ("slurmctld", "slurmd"):
            process = subprocess.Popen(
                [daemon, "-D", "-f", str(conf)],
                env=environment,
                stdout=(folder / f"{daemon}.out").open("w"),
                stderr=subprocess.STDOUT,
            )
            stack.callback(_stop, process)
        _wait_until_idle(folder, environment)
        stack.callback(subprocess.run, ["scancel", "--me", "--full", "-s", "KILL"], env=environment)
        yield conf


def _start_munge(stack: contextlib.ExitStack, folder: Path) -> Path:
    """munged without a service manager: as root, with a key and a socket of its own."""
    place = folder / "munge"
    place.mkdir(mode=0o755)
    key = place / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"key-file": key, "socket": place / "socket", "pid-file": place / "pid", "log-file": place / "log"}
    process = subprocess.Popen(
        ["munged", "--foreground", "--force", f"--seed-file={place / 'seed'}"]
        + [f"--{option}={file}" for option, file in files.items()],
        stderr=subprocess.DEVNULL,
    )
    stack.callback(_stop, process)
    deadline = time.monotonic() + 10
    while not files["socket"].exists():
        if process.poll() is not None or time.monotonic() > deadline:
            log = files["log-file"]
            raise NoSlurmError(f"munged does not start: {log.read_text()[-300:] if log.exists() else ''}")
        time.sleep(0.1)
    return files["socket"]


def _write_conf(folder: Path, munge_socket: Path) -> Path:
    host = socket.gethostname().split(".")[0]
    ports = [_free_port(), _free_port()]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(
        f"""
ClusterName=missu-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge_socket},cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
KillWait=2
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    return conf


def _wait_until_idle(folder: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while True:
        result = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
        if result.stdout.strip() == "idle":
            return
        if time.monotonic() > deadline:
            logs = [folder / f"{daemon}.log" for daemon in ("slurmctld", "slurmd")]
            ends = " | ".join(log.read_text()[-300:] for log in logs if log.exists())
            raise NoSlurmError(f"no idle node within 30 s: {result.stdout} {result.stderr} {ends}")
        time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
