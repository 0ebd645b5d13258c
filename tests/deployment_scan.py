"""What is looked for in a whole deployment, where, and leaks planted in each of these places."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from safetensors.numpy import load_file, save_file

from client.source.pseudonyms import load_pseudonyms
from server.server_folder import ServerFolder
from tests.leak_scan import Canary, LeakScan
from tests.leak_unpacking import RECORD_OBJECT
from tests.operator_sites import (
    ATTRIBUTE_MARK,
    FOLDER_MARK,
    USER_MARK,
    OperatorSites,
    SiteRows,
)
from tests.postgres_server import PASSWORD
from tests.site_sources import tables_of


class Places(NamedTuple):
    """Where a deployment left something that others than the site may read, or a log.

    Attributes:
        printed: what every command and process printed, the agents' logs among it.
        wire: what went through the gate, in the clear.
        server: the server's folder: configuration, Flower's database, the runs, the bundle.
        export: the exported adapter.
        flower: the ``FLWR_HOME`` folders of the sites' SuperNodes.
    """

    printed: Path
    wire: Path
    server: Path
    export: Path
    flower: Path


def gather(
    folder: Path,
    server: ServerFolder,
    sites: OperatorSites,
    said: Mapping[str, str],
    wire: Path,
    export: Path,
    sockets: Path,
) -> Places:
    """Copies to `folder` what is to be searched; the server's own keys stay where they are."""
    folder.mkdir()
    printed = folder / "printed"
    printed.mkdir()
    # `init` tells its operator where the site's folder is.
    commands = "\n".join(sites.said).replace(str(sites.folders[0].parent), "")
    for name, text in {**said, "commands": commands}.items():
        (printed / name).write_text(text)
    for site in sites.folders:
        (printed / f"agent-of-{site.name}").write_bytes((site / "agent.log").read_bytes())
    without_keys = shutil.ignore_patterns("*.key")
    shutil.copytree(server.path, folder / "server", ignore=without_keys)
    for site in sites.folders:
        shutil.copytree(sockets / site.name / "flwr", folder / "flower" / site.name)
    return Places(printed, wire, folder / "server", export, folder / "flower")


def scanner_of(sites: OperatorSites, server: ServerFolder) -> LeakScan:
    """Looks for everything that is private or secret in this deployment."""
    marks = {
        "a user's id": USER_MARK,
        "an attribute": ATTRIBUTE_MARK,
        "a site's folder": FOLDER_MARK,
        "the database's password": PASSWORD,
    }
    canaries = [Canary.of(name, mark) for name, mark in marks.items()]
    for site, rows in zip(sites.folders, sites.rows, strict=True):
        pseudonyms = load_pseudonyms(site / "keys", begin=False)
        for user in rows.histories:
            canaries.append(Canary.of("a user's id", user))
            canaries.append(Canary.of("a pseudonym", pseudonyms.digest(user)))
        for path in (*sorted((site / "keys").glob("*.key")), site / "node" / "node.key"):
            canaries.append(key_canary(f"{path.name} of a site", path))
    for path in (server.signing_key, *sorted(server.tls.glob("*.key"))):
        canaries.append(key_canary(f"{path.name} of the server", path))
    raw = [each for rows in sites.rows for each in sequences_of(rows)]
    return LeakScan(canaries, [*raw, *(each for site in sites.folders for each in kept_by(site))])


def sequences_of(rows: SiteRows) -> Iterator[list[int]]:
    """Each user's items by index and by id, and the times."""
    for user, items in rows.histories.items():
        own = [row for row in rows.interactions if row[0] == user]
        yield items
        yield [int(row[1]) for row in own]
        yield [int(row[2]) for row in own]


def kept_by(site: Path) -> Iterator[list[int]]:
    """Each user's items by index and by id, in the order of the site's own table."""
    users: dict[str, list[int]] = {}
    for row in tables_of(site)["interactions"]:
        users.setdefault(row["user_id"], []).append(int(row["item_id"]))
    for items in users.values():
        yield items
        yield [item - 1 for item in items]  # the synthetic ids count from 1


def key_canary(name: str, path: Path) -> Canary:
    """A key's file as it is, or of one in PEM or OpenSSH's form the secret number."""
    content = path.read_bytes()
    if not content.startswith(b"-----BEGIN"):
        return Canary.of(name, content)
    read = load_ssh_private_key if b"OPENSSH" in content else load_pem_private_key
    key = read(content, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    size = (key.key_size + 7) // 8
    return Canary.of(name, key.private_numbers().private_value.to_bytes(size, "big"))


def plant_in_log(places: Places, sites: OperatorSites) -> None:
    """A site's log names a user as the site's tables do."""
    site, rows = sites.folders[0], sites.rows[0]
    name = load_pseudonyms(site / "keys", begin=False).of(next(iter(rows.histories)))
    with (places.printed / f"agent-of-{site.name}").open("a") as log:
        log.write(f"WARNING user {name[:64]} has no negatives\n")


def plant_on_wire(places: Places, sites: OperatorSites) -> None:
    """A record of a real message that a site sent says a path, through Flower's own codec."""
    for path in sorted(places.wire.glob("*-push-object")):
        content = path.read_bytes()
        found = RECORD_OBJECT.search(content)
        if found is not None and found[1] == b"ConfigRecord":
            end = found.end() + int(found[2])
            record = ConfigRecord.inflate(content[found.start() : end])
            record["reason"] = f"cannot read {sites.folders[1]}/ledger.sqlite"
            path.write_bytes(content[: found.start()] + record.deflate() + content[end:])
            return
    raise AssertionError("no site sent a record")


def plant_in_database(places: Places, sites: OperatorSites) -> None:
    """A message in the SuperLink's own database lists a user's items."""
    (items, *_) = sites.rows[2].histories.values()
    message = RecordDict({"metrics": MetricRecord({"losses": items})})
    store = SqlObjectStore(f"sqlite:///{places.server / 'state' / 'superlink.db'}")
    store.initialize()
    store.preregister(1, get_object_tree(message))
    for name, each in get_all_nested_objects(message).items():
        store.put(name, each.deflate())
    # Left to the garbage collector, it takes its -shm and -wal away in the midst of a scan.
    if store._engine is not None:
        store._engine.dispose()


def plant_in_run(places: Places, sites: OperatorSites) -> None:
    """A checkpoint of the run holds a user's times."""
    (run,) = (places.server / "runs").iterdir()
    user = next(iter(sites.rows[3].histories))
    times = [float(row[2]) for row in sites.rows[3].interactions if row[0] == user]
    np.savez_compressed(run / "debug.npz", x=np.array(times))


def plant_in_export(places: Places, sites: OperatorSites) -> None:
    """The exported adapter has a user's items as a tensor."""
    (path,) = places.export.glob("adapter_model.safetensors")
    (items, *_) = sites.rows[4].histories.values()
    save_file({**load_file(path), "debug": np.array(items, np.float32)}, path)


def plant_in_flower_home(places: Places, sites: OperatorSites) -> None:
    """What Flower keeps at a site has the node's private key."""
    site = sites.folders[0]
    shutil.copy(site / "node" / "node.key", places.flower / site.name / "cache")


PLANTED: dict[str, tuple[Callable[[Places, OperatorSites], None], str]] = {
    "printed": (plant_in_log, "a pseudonym"),
    "wire": (plant_on_wire, "a site's folder"),
    "server": (plant_in_database, "items in a row, as text"),
    "server, its run": (plant_in_run, "items in a row, as <f8"),
    "export": (plant_in_export, "items in a row, as <f4"),
    "flower": (plant_in_flower_home, "node.key of a site"),
}
