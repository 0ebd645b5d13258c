"""``fedrec audit``: try to refute a run's privacy claim, and verify what an auditor signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from common.command_line import stderr_console
from common.errors import ClaimRefuted, PrivacyError
from simulations.command_options import AsJson, Quiet
from simulations.run_paths import find_run

if TYPE_CHECKING:
    from simulations.audit.audit_file import AuditFile
    from simulations.audit.verified import Verified

DEFAULT = "run"
EXAMPLES = (
    "Examples:\n\n"
    "fedrec audit demo-20260101T120000Z-1a2b\n\n"
    "fedrec audit runs/NAME --checks A1,A7 --budget-minutes 5\n\n"
    "fedrec audit verify runs/NAME/audit.json --key auditor.pub\n\n"
    "fedrec audit positive-control"
)


class DefaultCommandGroup(TyperGroup):
    """A group whose first argument may be left out: `fedrec audit RUN` is `audit run RUN`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front, unless a command or help was asked for."""
        if args and args[0] == "--self-test":
            args = ["self-test", *args[1:]]
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


audit_app = typer.Typer(
    cls=DefaultCommandGroup,
    help="Try to refute a run's privacy claim, and verify what an auditor signed.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@audit_app.command(DEFAULT, epilog=EXAMPLES)
def audit(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or its folder.")],
    checks: Annotated[
        str, typer.Option(metavar="A1,A7,…", help="Which checks are made. Default: all.")
    ] = "",
    budget_minutes: Annotated[
        float, typer.Option(min=0, help="A check that would not fit is reported as not testable.")
    ] = 10.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the report goes. Default: the run.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Ledger checkpoints that peers or anchors kept; may be given many times.",
        ),
    ] = None,
    site_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='Sites\' public keys, known from elsewhere: {"SITE": "HEX"}.'
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Audit a run: audit.json, audit.html and a log of what would be tested, all signed.

    Exit code 2 where the claim is refuted, or where the evidence was tampered with.
    """
    from simulations.audit.auditing import audit_run
    from simulations.audit.auditor_key import load_auditor_key
    from simulations.audit.checks import chosen_checks
    from simulations.audit.evidence import read_evidence, read_pinned
    from simulations.audit.run_canaries.gate import with_run_canaries

    chosen = chosen_checks(checks)
    folder = find_run(run).path
    pinned = read_pinned(site_keys) if site_keys else {}
    evidence = read_evidence(folder, against=against or [], pinned=pinned)
    console = stderr_console()
    found = audit_run(
        evidence,
        with_run_canaries(chosen, evidence),
        minutes=budget_minutes,
        out=out or folder,
        key=load_auditor_key(),
        notify=(lambda _: None) if quiet else console.print,
    )
    place = (out or folder) / "audit.html"
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), ensure_ascii=False, allow_nan=False))
    else:
        _show(Console(highlight=False), found, place)
    failed = [finding for finding in found.findings if finding.refutes]
    if failed:
        raise ClaimRefuted(
            f"the audit refuted the claim of {found.run}: {failed[0].name}: {failed[0].reason} "
            f"({len(failed)} of {len(found.findings)} attempts succeed); do not rely on the claim, "
            f"see {place}"
        )


@audit_app.command("positive-control")
def positive_control_command(
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Of the made-up people and their sites; may be given many times. Default: 0.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Gets positive-control.json and positive-control.md."),
    ] = None,
) -> None:
    """Attack a federation that leaks on purpose: attacks that find nothing there prove nothing.

    Exit code 2 where an attack does not find what is there.
    """
    from simulations.audit.attacks.control_results import controls

    results = controls(seed or [0], out, lambda line: print(line, flush=True))
    wrong = [
        (each.seed, outcome)
        for each in results
        for outcome in each.outcomes
        if not outcome.as_it_should_be
    ]
    if wrong:
        at, first = wrong[0]
        raise PrivacyError(
            f"the positive control failed: seed {at}, {first.name}: {first.reason} ({len(wrong)} "
            "in all); rely on no attack of this build"
        )


@audit_app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An audit.json.")],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The auditor's public key: hex, or a file such as "
                     "auditor.pub."),
    ] = None,
    site_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Sites\' public keys: {"SITE": "HEX"}.'),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The run's folder. Default: the file's own."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Verify a signed audit with public keys alone: signature, links, files, and its log.

    Exit code 2 where anything does not hold.
    """
    from simulations.audit.auditor_key import read_public_key
    from simulations.audit.evidence import read_pinned
    from simulations.audit.verifying import verify_audit

    found, looked = verify_audit(
        file,
        key=None if key is None else read_public_key(key),
        site_keys=read_pinned(site_keys) if site_keys else {},
        run=run,
    )
    if as_json:
        content = {
            "schema_version": 1,
            "run": found.run,
            "verdict": found.verdict,
            "public_key": found.public_key,
            "verified": [each._asdict() for each in looked],
        }
        print(json.dumps(content, ensure_ascii=False))
    else:
        _show_verified(Console(highlight=False), found, looked)


@audit_app.command("self-test")
def self_test(
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 1,
) -> None:
    """Plant fourteen known bugs in scratch copies; each must be seen by its check.

    Exit code 1 where one is not, or where a check fails on the code as it is.
    """
    from simulations.audit.self_test import self_test, table

    is_sound = True
    for outcome in self_test(jobs=jobs):
        is_sound = is_sound and outcome.as_it_should_be
        print(*table([outcome]), flush=True)
    if not is_sound:
        raise typer.Exit(1)


def _show(console: Console, found: AuditFile, place: Path) -> None:
    from simulations.audit.page import headline

    table = Table("check", "what was tried", "verdict", "reason")
    for each in found.findings:
        table.add_row(each.check, each.name, each.verdict.replace("_", " "), each.reason)
    console.print(table)
    console.print(headline(found.model_dump(mode="json")), markup=False)
    console.print(found.sentence, markup=False)
    console.print(f"report: {place}", markup=False, soft_wrap=True)
    console.print(f"signed by {found.public_key}", markup=False, soft_wrap=True)


def _show_verified(console: Console, found: AuditFile, looked: tuple[Verified, ...]) -> None:
    for each in looked:
        mark = "holds" if each.holds else "not seen"
        console.print(f"{each.what}: {mark}: {each.text}", markup=False, soft_wrap=True)
    verdict = found.verdict.replace("_", " ")
    console.print(f"verdict of {found.audited_at} on {found.run}: {verdict}", markup=False)
    console.print(found.sentence, markup=False)
