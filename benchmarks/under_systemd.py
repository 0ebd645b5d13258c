"""A deployment under a real systemd: the installed units, their hardening, kills and restarts.

As root, on a machine with systemd installed (not necessarily running)::

    python -m benchmarks.under_systemd --boot

It boots systemd as the first process of namespaces of its own, over a throw-away overlay of this
machine's root and in control groups of its own, so that no file of the machine changes; network
and kernel are the machine's (ports 9091 to 9098 and 50061 must be free). There it types what
docs/deploy-server.md and docs/deploy-site.md say (`runuser` for `sudo`): a coordinator and one
site of MovieLens-100K, `systemctl enable --now`, one run in mode `local`. The main processes of
gate, monitor, SuperNode and agent are killed in the midst of the run. It ends with a line for
each check, and exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.first_round import partner_tables

ROOT = Path(__file__).resolve().parent.parent
CGROUPS = Path("/sys/fs/cgroup")
PROGRAM, SERVER, SITE = Path("/opt/fedrec"), Path("/srv/fedrec"), Path("/srv/fedrec-site")
SERVER_UNITS = ("fedrec-superlink", "fedrec-gate")
SITE_UNITS = ("fedrec-site", "fedrec-supernode", "fedrec-monitor")
SETTINGS = (
    *("privacy.mode=local", "data.sites=1", "federation.min_sites=1", "federation.rounds=6"),
    *("privacy.targets_per_unit=10", "evaluation.every=0"),
)
USERS = 150
LIMIT_S = 1200.0

# Over the overlay: nothing that looks after devices, temporary files or the kernel's settings.
BOOT = r"""
set -e
mount --make-rprivate /
top=$(mktemp -d); mount -t tmpfs -o size=6G tmpfs $top; mkdir $top/upper $top/work $top/root
mount -t overlay overlay -o lowerdir=/,upperdir=$top/upper,workdir=$top/work $top/root
cd $top/root
mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
for each in run tmp; do mount -t tmpfs tmpfs $each; done; chmod 1777 tmp; touch run/under-systemd
rm -rf lib/systemd/system/*.target.wants etc/systemd/system/*.target.wants
for unit in systemd-udevd.service systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer \
  systemd-sysctl.service systemd-udevd-control.socket systemd-udevd-kernel.socket getty.target
do ln -sf /dev/null etc/systemd/system/$unit; done
hostname under-systemd
mkdir -p before; pivot_root . before; umount -l /before
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
"""


def main() -> None:
    """Boots, or types inside."""
    parser = argparse.ArgumentParser(description=__doc__)
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--boot", action="store_true")
    role.add_argument("--inside", action="store_true", help="as the booted system's root")
    parser.add_argument("--python", default="/usr/bin/python3", help="that every user may run")
    given = parser.parse_args()
    if given.boot and os.geteuid() != 0:
        raise SystemExit("error: only root can boot a system; run it as root")
    if given.inside and not Path("/run/under-systemd").is_file():
        raise SystemExit(
            "error: this is the machine itself, which --inside would change; use --boot"
        )
    raise SystemExit(_inside(given.python) if given.inside else _boot(given.python))


def _boot(python: str) -> int:
    """Starts systemd, runs this module inside, and ends systemd; the exit code of what ran."""
    name = f"fedrec-{secrets.token_hex(4)}"
    groups = [each / name for each in CGROUPS.iterdir() if (each / "cgroup.procs").is_file()]
    groups = [each for each in groups if os.access(each.parent, os.W_OK) and _made(each)]
    command = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup"]
    booted = subprocess.Popen(
        [*command, "--kill-child", "bash", "-c", BOOT],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: _enter(groups),
    )
    try:
        enter = ["nsenter", "-t", _first_process(booted.pid), "-m", "-p", "-u", "-i", "-C", "--"]
        inside = [sys.executable, "-m", "benchmarks.under_systemd", "--inside", "--python", python]
        return subprocess.run(
            [*enter, "env", f"--chdir={ROOT}", f"PYTHONPATH={ROOT}", *inside], check=False
        ).returncode
    finally:
        booted.kill()
        booted.wait()
        time.sleep(2.0)
        for each in groups:
            for below in sorted(each.rglob("*/"), reverse=True):
                below.rmdir()
            each.rmdir()


def _made(group: Path) -> bool:
    try:
        group.mkdir()
    except OSError:  # a hierarchy that is mounted read-only
        return False
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).is_file():
            (group / name).write_text((group.parent / name).read_text())
    return True


def _enter(groups: list[Path]) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def _first_process(unshared: int) -> str:
    """The id of systemd, once it answers."""
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        children = Path(f"/proc/{unshared}/task/{unshared}/children").read_text().split()
        for child in children:
            enter = ["nsenter", "-t", child, "-m", "-p", "-C", "systemctl", "is-system-running"]
            said = subprocess.run(enter, capture_output=True, text=True, check=False).stdout
            if said.strip() in ("running", "degraded"):
                return child
        time.sleep(0.5)
    raise SystemExit("systemd did not come up; what it printed stands above")


def _inside(python: str) -> int:
    """Types what the docs say; 0 where every check holds."""
    _install(python)
    os.environ["PATH"] = f"{PROGRAM}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    checks: dict[str, bool] = {}
    _coordinate()
    checks["the server's units are up"] = _all_active(SERVER_UNITS)
    _join()
    checks["the site's units are up"] = _all_active(SITE_UNITS)
    _print("systemctl", "start", "fedrec-refresh")
    refreshed = _said("systemctl", "show", "-P", "Result", "fedrec-refresh")
    checks["the refresh has ended well"] = refreshed == "success"
    checks["a run ends, its processes killed one by one"] = _run_with_kills()
    checks["the ledger has one entry for each release"] = _is_paid_once()
    checks["all units are up after it"] = _all_active((*SERVER_UNITS, *SITE_UNITS))
    checks["the site serves the run's adapter"] = _serves()
    for unit in (*SERVER_UNITS, *SITE_UNITS, "fedrec-refresh", "fedrec-serve"):
        line = _said("systemd-analyze", "security", "--no-pager", f"{unit}.service").splitlines()
        print(line[-1].encode("ascii", "ignore").decode().strip(), flush=True)
    _print("systemctl", "stop", "fedrec-serve", *SITE_UNITS, *SERVER_UNITS)
    failed = _said("systemctl", "--failed", "--no-legend", "--plain")
    checks["all stop in order"] = not failed
    for what, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not all(checks.values()):
        _print("journalctl", "--no-pager", "-n", "150")
    return 0 if all(checks.values()) else 1


def _install(python: str) -> None:
    """An environment that belongs to root, over the packages of this one; and a journal."""
    _print("systemctl", "start", "systemd-journald")
    for folder in (ROOT, *ROOT.parents):
        folder.chmod(folder.stat().st_mode | 0o011)  # a package's files are for everybody
    subprocess.run([python, "-m", "venv", "--without-pip", PROGRAM], check=True)
    (packages,) = {path for path in map(Path, sys.path) if path.name == "site-packages"}
    (own,) = (PROGRAM / "lib").glob("python3*/site-packages")
    (own / "all.pth").write_text(f"import site; site.addsitedir({str(packages)!r})\n")
    for script in Path(sys.executable).parent.glob("f*"):
        if script.name.startswith(("fedrec", "flwr", "flower")):
            lines = script.read_text().splitlines(keepends=True)
            made = PROGRAM / "bin" / script.name
            made.write_text("".join([f"#!{PROGRAM}/bin/python\n", *lines[1:]]))
            made.chmod(0o755)


def _coordinate() -> None:
    settings = [word for key in SETTINGS for word in ("--set", key)]
    scenario = ROOT / "simulations" / "scenarios" / "demo.toml"
    _print(
        *("fedrec-server", "init", SERVER, "--system", "--host", "localhost"),
        *("--scenario", scenario, *settings),
    )
    _print("systemctl", "enable", "--now", *SERVER_UNITS)


def _join() -> None:
    signer = (SERVER / "START.md").read_text().partition("--signer ")[2].split()[0]
    port = (SERVER / "START.md").read_text().partition("--superlink localhost:")[2].split()[0]
    shutil.copy(SERVER / "tls" / "ca.crt", "/root/ca.crt")
    shutil.copy(SERVER / "run.toml", "/tmp/run.toml")
    Path("/tmp/run.toml").chmod(0o644)
    _print(
        *("fedrec-site", "init", "--system", "--site", SITE, "--name", "north", "--source", "csv"),
        *("--superlink", f"localhost:{port}", "--ca", "/root/ca.crt", "--signer", signer),
    )
    table, user = partner_tables(SITE)
    table[user < USERS].to_csv(SITE / "interactions.csv", index=False)
    for name in ("items.parquet", "interactions.csv"):
        shutil.chown(SITE / name, "fedrec", "fedrec")
    source = SITE / "source.toml"
    source.write_text(source.read_text().replace("declared_units = 0", f"declared_units = {USERS}"))
    key = Path("/tmp/north.pub")
    shutil.copy("/etc/fedrec/node/node.pub", key)
    key.chmod(0o644)
    _print(
        *_as("fedrec-server", "fedrec-server", "add-site", "north", key, "--folder", SERVER),
    )
    _print(
        *_as("fedrec", "fedrec-site", "check", "--site", SITE, "--scenario", "/tmp/run.toml"),
    )
    _print("systemctl", "enable", "--now", *SITE_UNITS)


def _run_with_kills() -> bool:
    """One run; after each round a main process is killed. What ends the run is answered as told.

    A round that too few sites can answer (here there is one) ends a run with one line;
    `fedrec-server resume` goes on with it.
    """
    left = ["fedrec-gate", "fedrec-monitor", "fedrec-supernode", "fedrec-site"]
    process, killed_at, end = _started("run"), 0, time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        trained = [record for record in _rounds() if record["server_round"] > 0]
        done = sum(record["sites"][0]["status"] == "ok" for record in trained)
        if left and done > killed_at:
            unit, killed_at = left.pop(0), done
            number = int(_said("systemctl", "show", "-P", "MainPID", unit))
            print(f"after {done} rounds: SIGKILL to {unit} ({number})", flush=True)
            os.kill(number, signal.SIGKILL)
        if process.poll() == 0:
            for record in _rounds():
                sites = [(site["site"], site["status"], site["reason"]) for site in record["sites"]]
                print(record["server_round"], *sites, flush=True)
            return not left
        if process.poll() is not None:
            time.sleep(60.0)  # every unit is up again
            (run,) = (SERVER / "runs").iterdir()
            process = _started("resume", run)
        time.sleep(1.0)
    for unit in (*SERVER_UNITS, *SITE_UNITS):
        print(_said("journalctl", "--no-pager", "-u", unit, "-o", "cat", "-n", "15"), flush=True)
    return False


def _started(*words: str | Path) -> subprocess.Popen[bytes]:
    command = [*_as("fedrec-server", "fedrec-server", *words, "--folder", SERVER)]
    print("$", *command, flush=True)
    with Path("/root/flwr.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd="/")


def _rounds() -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in SERVER.glob("runs/*/rounds.jsonl")
        for line in path.read_text().splitlines()
    ]


def _is_paid_once() -> bool:
    """Whether the site's ledger holds what the run's records say, and no more."""
    releases = sum(
        len(path.read_text().splitlines()) for path in SERVER.glob("runs/*/releases.jsonl")
    )
    shown = json.loads(
        _said(*_as("fedrec", "fedrec-site", "ledger", "show", "--site", SITE, "--json"))
    )
    recorded = _rounds()[-1]["sites"][0]["epsilon_prv"]
    spent, entries = shown["epsilon_prv"], shown["tree_size"]
    print(f"{releases} releases, {entries} entries; ε {recorded:.4f} and {spent:.4f}", flush=True)
    return bool(releases == entries and abs(recorded - spent) < 1e-9)


def _serves() -> bool:
    """Exports, installs at the site, starts the service, and asks it."""
    key = f"{SERVER}/signing.key"
    (run,) = (SERVER / "runs").iterdir()
    export = SERVER / "state" / "export"
    _print(*_as("fedrec-server", "fedrec-server", "export", run, "--out", export, "--key", key))
    shutil.copytree(export, "/tmp/export")
    shutil.chown("/tmp/export", "fedrec")
    for path in Path("/tmp/export").iterdir():
        path.chmod(0o644)
    Path("/tmp/export").chmod(0o755)
    _print(*_as("fedrec", "fedrec-site", "install-adapter", "/tmp/export", "--site", SITE))
    _print("systemctl", "enable", "--now", "fedrec-serve")
    for _ in range(120):
        log = _said("journalctl", "--no-pager", "-u", "fedrec-serve", "-o", "cat")
        if "serving" in log:
            print(log.splitlines()[-1], flush=True)
            return _all_active(("fedrec-serve",))
        time.sleep(1.0)
    return False


def _all_active(units: tuple[str, ...]) -> bool:
    """Whether they stay up for a while."""
    before = _said("systemctl", "show", "-P", "NRestarts", *units)
    for _ in range(6):
        time.sleep(20.0)  # longer than any unit waits before it is tried again
        restarts = _said("systemctl", "show", "-P", "NRestarts", *units)
        states = {_said("systemctl", "is-active", unit) for unit in units}
        if states == {"active"} and restarts == before:
            return True
        before = restarts
    for unit in units:
        print(_said("journalctl", "--no-pager", "-u", unit, "-o", "cat", "-n", "15"), flush=True)
    return False


def _as(user: str, *command: str | Path) -> tuple[str | Path, ...]:
    return ("runuser", "-u", user, "--", *command)


def _said(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _print(*command: object) -> None:
    print("$", *command, flush=True)
    words = [str(each) for each in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        print(done.stdout, done.stderr, flush=True)


if __name__ == "__main__":
    main()
