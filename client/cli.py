"""``fedrec-site``: the site operator's commands.

What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from client.adapter_commands import install_adapter, rollback_adapter
from client.connect_commands import connect
from client.drift_command import drift
from client.monitor_command import monitor
from client.serving.blend_command import blend
from client.serving.commands import page, recommend, serve
from client.serving.policy_command import off_policy
from client.serving.student_command import distil
from client.site_option import AsJson, Site
from client.source_cli import first_refresh, previewed, register
from common.command_line import run_command_line, stderr_console
from common.config_loading import load_config
from common.errors import LedgerError
from common.process_environment import quiet_third_parties

if TYPE_CHECKING:
    from client.policy import SitePolicy
    from client.site_ledger import SiteLedger

app = typer.Typer(
    name="fedrec-site",
    help="Run a site: check it, serve it, and look after its ledger.",
    epilog="Start with: fedrec-site check --site FOLDER",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
ledger_app = typer.Typer(
    help="The lifelong record of what the site released and what that cost.", no_args_is_help=True
)
app.add_typer(ledger_app, name="ledger")
register(app)
app.command(
    epilog="Example: fedrec-site connect --site /srv/fedrec/site --superlink HOST:9092 --ca ca.crt"
)(connect)
app.command("install-adapter", epilog="Example: fedrec-site install-adapter ./export --site .")(
    install_adapter
)
app.command("rollback-adapter", epilog="Example: fedrec-site rollback-adapter --site .")(
    rollback_adapter
)
app.command(epilog="Example: fedrec-site drift --site . --since 2026-05-31")(drift)
app.command(epilog="Example: fedrec-site recommend --site . --user 42 --k 10 --why")(recommend)
app.command(epilog="Example: fedrec-site serve --site /srv/fedrec/site")(serve)
app.command(epilog="Example: fedrec-site page --site /srv/fedrec/site")(page)
app.command(epilog="Example: fedrec-site blend --site /srv/fedrec/site")(blend)
app.command(epilog="Example: fedrec-site distil --site /srv/fedrec/site")(distil)
app.command("off-policy", epilog="Example: fedrec-site off-policy --site . --policy ucb")(
    off_policy
)

app.command(epilog="Example: fedrec-site monitor --figures /run/fedrec/north.prom")(monitor)

Against = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="A copy of checkpoints that others kept, such as the server's releases.jsonl; "
        "may be given many times.",
    ),
]
Scenario = Annotated[
    Path | None, typer.Option(help="The run that is asked for. Default: the defaults.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of it."),
]


@ledger_app.command("show", epilog="Example: fedrec-site ledger show --site /srv/fedrec/site")
def ledger_show(site: Site, as_json: AsJson = False) -> None:
    """Show every entry, and the site's total ε beside its limit."""
    from client.ledger_export import export_file
    from client.ledger_view import ledger_summary, show_ledger
    from client.site_ledger import LEDGER_FILE

    _, policy = _opened(site)
    exported = export_file(site / LEDGER_FILE)
    summary = ledger_summary(exported, policy)
    if as_json:
        _print_json(summary)
    else:
        show_ledger(Console(highlight=False), exported, summary)


@ledger_app.command(
    "verify",
    epilog="Example: fedrec-site ledger verify --site /srv/fedrec/site --against releases.jsonl",
)
def ledger_verify(site: Site, against: Against = None, as_json: AsJson = False) -> None:
    """Find and name every edit, drop, reorder, truncation, rollback and fork.

    The ledger is held against its own signed checkpoints, its anchor, and every
    file given. Exit code 0 only where nothing is wrong.
    """
    ledger, _ = _opened(site)
    faults = ledger.verify(against or [])
    if as_json:
        _print_json({"ok": not faults, "faults": [fault._asdict() for fault in faults]})
    for fault in faults if not as_json else ():
        print(f"{fault.kind}: {fault.text}")
    if faults:
        names = ", ".join(sorted({fault.kind for fault in faults}))
        raise LedgerError(f"ledger {ledger.path} does not verify: {names}")
    if not as_json:
        print("the ledger is whole, and so is every copy that it was held against")


@ledger_app.command(
    "export", epilog="Example: fedrec-site ledger export --site /srv/fedrec/site --out north.json"
)
def ledger_export(
    site: Site,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: stdout.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export all entries without their bytes, under the newest signed checkpoint."""
    from client.ledger_export import export_file
    from client.site_ledger import LEDGER_FILE
    from common.atomic_files import write_json

    exported = export_file(site / LEDGER_FILE)
    if out is None:
        _print_json(exported)
        return
    write_json(out, exported)
    if as_json:
        _print_json({"ledger": str(out)})
    else:
        print(f"ledger: {out}")


@ledger_app.command(
    "recover",
    epilog="Example: fedrec-site ledger recover --site /srv/fedrec/site --against releases.jsonl",
)
def ledger_recover(site: Site, against: Against = None, as_json: AsJson = False) -> None:
    """Adopt the higher spend after a rollback or tampering; nothing is ever forgotten.

    Where neither the anchor nor a file is left, the whole budget is charged.
    """
    from common.privacy_events import event_to_dict

    ledger, policy = _opened(site)
    recovery = ledger.recover(against or [], policy)
    charged = None if recovery.event is None else event_to_dict(recovery.event)
    if as_json:
        _print_json({"charged": charged, "lost_checkpoints": len(recovery.lost)})
    elif charged is None:
        print("nothing had to be charged; the ledger and its anchor agree")
    else:
        print(f"charged for what the copies show and the database lacks: {json.dumps(charged)}")


@app.command(epilog="Example: fedrec-site check --site /srv/fedrec/site --scenario run.toml")
def check(
    site: Site,
    scenario: Scenario = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Try ten rows of the source, prove the private step; say what would leave and what never."""
    from client.site_check import check_site

    config = load_config(scenario=scenario, overrides=overrides or [])
    preview = previewed(site)
    with stderr_console().status("proving the private step with made-up units"):
        report = check_site(site, config, preview)
    if as_json:
        _print_json(report._asdict())
        return
    for heading, lines in report._asdict().items():
        if not lines:
            continue
        print(f"{heading.replace('_', ' ')}:")
        print("".join(f"  - {line}\n" for line in lines), end="")


@app.command(epilog="Example: fedrec-site identity --site /srv/fedrec/site")
def identity(site: Site, as_json: AsJson = False) -> None:
    """Print the site's public key, for its peers to pin under [peers] in their policy.toml.

    Hand it over on a way that the coordinator does not control.
    """
    from client.site_data import declared_name
    from client.site_setup import identity_of

    name, key = declared_name(site), identity_of(site).public_key
    if as_json:
        _print_json({"site": name, "identity": key})
    else:
        print(f'{json.dumps(name)} = "{key}"')


@app.command(epilog="Example: fedrec-site run --site /srv/fedrec/site --group fedrec-relay")
def run(
    site: Site,
    socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to listen. Default: in the state folder."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose members may open the socket.")
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
) -> None:
    """Serve this site: own its data, policy and ledger, and answer the SuperNode's relay.

    Reads the site's source first where that was never done; proves the private step of the
    scenario, and keeps its model loaded.
    """
    from client.resident.signals import EndOnSignals

    signals = EndOnSignals()  # before the next import, which starts threads
    from client.resident.run import run_site

    config = load_config(scenario=scenario, overrides=overrides or [])
    first_refresh(site)
    run_site(site, config, socket=socket, group=group, signals=signals)


@app.command("code-hash", epilog="Example: fedrec-site code-hash --bundle ./fedrec")
def code_hash(
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="An unpacked bundle. Default: what is installed."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Also sign it; an Ed25519 key, 32 raw bytes."),
    ] = None,
) -> None:
    """Print the hash of a bundle's code, for code_sha256 of policy.toml."""
    from common.bundle_hash import bundle_root, bundle_sha256, sign_bundle

    root = bundle_root() if bundle is None else bundle
    print(bundle_sha256(root))
    if sign is not None:
        print(f"signed by {sign_bundle(root, sign).public_key}")


def main() -> None:
    """Run the command line and map what goes wrong to one line and an exit code."""
    quiet_third_parties()
    run_command_line(lambda: app(prog_name="fedrec-site"))


def _opened(folder: Path) -> tuple[SiteLedger, SitePolicy]:
    from client.site_data import load_site
    from client.site_setup import ledger_of, ledger_unit, policy_of
    from common.config import RunConfig

    data = load_site(folder)
    # A lab's site has the unit of the run that began its ledger.
    config = RunConfig.model_validate({"privacy": {"unit": ledger_unit(folder) or "user"}})
    policy = policy_of(folder, config, is_simulated=data.simulated)
    return ledger_of(folder, data, policy), policy


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    main()
