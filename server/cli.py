"""``fedrec-server``: the coordinator's commands.

What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from common.command_line import owners_only, run_command_line
from common.process_environment import quiet_third_parties

app = typer.Typer(
    name="fedrec-server",
    help="Coordinate a federation: set it up, let sites in, hand out the result.",
    epilog="Start with: fedrec-server init FOLDER --host NAME",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")
]
Folder = Annotated[
    Path,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="What `fedrec-server init` made.",
        callback=owners_only,
    ),
]
MadeFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="What `init` made.", callback=owners_only)
]


@app.command(epilog="Example: fedrec-server init /srv/fedrec --host fedrec.example.org --sites 10")
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    host: Annotated[str, typer.Option(metavar="NAME", help="Name that sites connect to.")],
    sites: Annotated[int, typer.Option(help="How many sites take part.")] = 10,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where sites connect.")] = 9092,
    superlink_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of the SuperLink, on this machine only.")
    ] = 9091,
    listen: Annotated[str, typer.Option(help="Address that the gate binds.")] = "0.0.0.0",
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="For Prometheus, on this machine; 0: none.")
    ] = 9093,
    health_port: Annotated[
        int, typer.Option(min=0, max=65535, help="For gRPC health, on this machine; 0: none.")
    ] = 9094,
    ca: Annotated[
        str,
        typer.Option(metavar="own|FILE", help="Own authority, or the CA that sites are to trust."),
    ] = "own",
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --ca FILE: the certificate chain.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --ca FILE: its private key.")
    ] = None,
    scenario: Annotated[Path | None, typer.Option(help="The run, as TOML.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of the run."),
    ] = None,
    system: Annotated[
        bool,
        typer.Option(
            "--system", help="As root: make the user, give it the folder, install the units."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make keys, certificates, units, the signed bundle and the run's configuration."""
    from common.config_loading import load_config
    from server.certificates import check_host
    from server.deployment_files import start_text
    from server.server_folder import ServerFolder, checked_settings
    from server.server_init import DEPLOYED, init_server

    own = _own_certificate(ca, certificate, key)
    check_host(host)
    settings = checked_settings(
        host=host,
        port=port,
        superlink_port=superlink_port,
        listen=listen,
        metrics_port=metrics_port,
        health_port=health_port,
    )
    chosen = [*DEPLOYED, f"data.sites={sites}", *(overrides or [])]
    config = load_config(scenario=scenario, overrides=chosen)
    made = ServerFolder(folder.absolute())
    signer = init_server(folder, settings, config, own, system=system)
    if as_json:
        _print_json({"folder": str(folder.absolute()), "signer": signer})
    else:
        print(start_text(made, settings, signer, installed=system), end="")


@app.command(epilog="Example: fedrec-server renew /srv/fedrec")
def renew(
    folder: MadeFolder,
    new_authority: Annotated[
        bool,
        typer.Option("--new-authority", help="Replace the CA, too: every site needs its ca.crt."),
    ] = False,
) -> None:
    """Issue a new certificate for the gate; sites trust it already. Restart the gate then."""
    from server.server_folder import ServerFolder
    from server.server_init import renew_certificate

    made = ServerFolder(folder.absolute())
    expires = renew_certificate(made, new_authority=new_authority)
    if new_authority:
        print(f"give every site the new {made.tls / 'ca.crt'}; until it has it, it stays outside")
    print(f"valid until {expires:%Y-%m-%d}; restart the gate: systemctl restart fedrec-gate")


@app.command("add-site", epilog="Example: fedrec-server add-site north node.pub --folder .")
def add_site(
    name: Annotated[str, typer.Argument(help="The site's name.")],
    public_key: Annotated[Path, typer.Argument(help="Its node.pub.")],
    folder: Folder = Path("."),
    replace: Annotated[
        bool, typer.Option("--replace", help="The site's node has a new key; shut the old one out.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a site's node in: at the gate, and by `flwr supernode register`."""
    from server.registration import register_site
    from server.server_folder import ServerFolder

    node = register_site(ServerFolder(folder.absolute()), name, public_key, replace=replace)
    if as_json:
        _print_json({"site": name, "node_id": node})
    else:
        print(f"site {name} may connect{f' as node {node}' if node else ' again'}")


@app.command(epilog="Example: fedrec-server gate /srv/fedrec")
def gate(
    folder: MadeFolder,
    observe_listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="For metrics and health: in a container alone.")
    ] = "127.0.0.1",
) -> None:
    """Serve the address that sites connect to, in front of the SuperLink; and its metrics."""
    from server.gate import serve_gate
    from server.server_folder import ServerFolder

    serve_gate(ServerFolder(folder.absolute()), observe_listen)


@app.command(epilog="Example: fedrec-server status --folder /srv/fedrec --watch")
def status(
    run: Annotated[
        str | None, typer.Argument(help="A run's name, or its folder. Default: the current run.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="FOLDER", help="What `fedrec-server init` made."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the server, the run and its sites: rounds, refusals, ε spent and left."""
    from server.status_view import look, show

    show(lambda: look(run, folder), watch=watch, as_json=as_json)


@app.command(epilog="Example: fedrec-server run --folder /srv/fedrec --continue TIME-ID")
def run(
    folder: Folder = Path("."),
    continued: Annotated[
        str | None,
        typer.Option(
            "--continue",
            metavar="RUN",
            help="More rounds from the adapter of this finished run, with its settings, on what "
            "the sites hold now, over the same ledgers: what is stated is ε of all runs together.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of the run."),
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the flwr command instead of running it.")
    ] = False,
) -> None:
    """Start a run with the sites that are let in: by run.toml, or to continue another."""
    from server.run_command import start_run
    from server.server_folder import ServerFolder

    made = ServerFolder(folder.absolute())
    made.settings()
    done = start_run(made, continued=continued, overrides=overrides or [], only_print=only_print)
    if done is not None:
        print(f"run: {done}")


@app.command(epilog="Example: fedrec-server resume runs/NAME --folder /srv/fedrec")
def resume(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was interrupted.")],
    folder: Folder = Path("."),
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the flwr command instead of running it.")
    ] = False,
) -> None:
    """Go on with a run after its ServerApp or SuperLink ended, however it ended."""
    from server.resume_command import resume_run
    from server.server_folder import CONNECTION, ServerFolder

    made = ServerFolder(folder.absolute())
    made.settings()
    resume_run(
        run,
        app=made.app,
        connection=CONNECTION,
        flower_home=made.flower_home,
        only_print=only_print,
    )


@app.command(epilog="Example: fedrec-server export runs/NAME --out ./export --key signing.key")
def export(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.")],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ed25519 key, 32 raw bytes: FOLDER/signing.key."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the adapter, head, model card and PRIVACY.md of a run, signed, to hand out."""
    from server.export import export_run

    manifest = export_run(run, out, key)
    if as_json:
        _print_json({"export": str(out), **manifest.model_dump(mode="json")})
        return
    print(f"export: {out} (run {manifest.run}, round {manifest.server_round})")
    if manifest.signature:
        print(f"signed by {manifest.signer}")
    else:
        print("not signed: no site will install it; give --key")


def main() -> None:
    """Run the command line and map what goes wrong to one line and an exit code."""
    quiet_third_parties()
    run_command_line(lambda: app(prog_name="fedrec-server"))


def _own_certificate(ca: str, certificate: Path | None, key: Path | None) -> Any:
    from common.errors import ConfigError
    from server.server_init import OwnCertificate

    if ca == "own":
        if certificate or key:
            raise ConfigError(["--certificate and --key need --ca FILE; name the CA of the sites"])
        return None
    if certificate is None or key is None:
        raise ConfigError([f"--ca {ca} needs --certificate and --key; give all three"])
    return OwnCertificate(certificate, key, Path(ca))


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    main()
