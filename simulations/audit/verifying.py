"""Whether an `audit.json` is what its auditor signed, and of the run that lies beside it.

A stranger needs the file and public keys, and nothing of this project's secrets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.atomic_files import read_json
from common.errors import EvidenceError
from common.ledger_checkpoint import parse_checkpoint
from common.run_folder import CONFIG_FILE
from simulations.audit.audit_file import AUDIT_PAGE, DOMAIN, AuditFile
from simulations.audit.audit_log import read_log, root_at
from simulations.audit.auditor_key import is_signed
from simulations.audit.evidence import DRAWN_AGAIN, file_hashes
from simulations.audit.opening import openings
from simulations.audit.page import audit_page
from simulations.audit.provenance import provenance
from simulations.audit.verified import Verified


def verify_audit(
    path: Path,
    *,
    key: str | None = None,
    site_keys: Mapping[str, str] | None = None,
    run: Path | None = None,
) -> tuple[AuditFile, tuple[Verified, ...]]:
    """Verify a signed audit.

    Args:
        path: of `audit.json`.
        key: the auditor's public key (hex), known from elsewhere.
        site_keys: sites' identity keys (hex), known from elsewhere.
        run: the run's folder; the file's own where left out and a run lies there.

    Returns:
        The audit, and what was looked at.

    Raises:
        EvidenceError: the first thing that does not hold, named.
        RunFolderError: a file cannot be read.
    """
    content = read_json(path)
    audit = _parsed(path, content)
    found = [_signature(path, content, audit, key), _links(path, audit, site_keys or {})]
    beside = path.parent if (path.parent / CONFIG_FILE).is_file() else None
    found.append(_files(path, audit, run or beside))
    found.append(_log(path, content))
    found += openings(path, audit)
    found.append(_page(path, content, audit))
    return audit, tuple(found)


def _parsed(path: Path, content: object) -> AuditFile:
    try:
        return AuditFile.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise EvidenceError(
            f"{path} is no audit that this version can read: {key}: {first['msg']}; "
            "verify it with the version of fedrec that wrote it"
        ) from error


def _signature(
    path: Path, content: Mapping[str, Any], audit: AuditFile, key: str | None
) -> Verified:
    fields = {name: value for name, value in content.items() if name != "signature"}
    if not is_signed(audit.public_key, audit.signature, DOMAIN, fields):
        raise EvidenceError(
            f"tampered audit: {path} is not what the holder of {audit.public_key[:16]}… signed; "
            "get it from the auditor again"
        )
    if key is None:
        text = (
            f"by {audit.public_key}, a key that the file itself names: compare it with the key "
            "that the auditor publishes (--key)"
        )
        return Verified("signature", holds=False, text=text)
    if key != audit.public_key:
        raise EvidenceError(
            f"forged audit: {path} is signed by {audit.public_key[:16]}…, not by the auditor's "
            f"{key[:16]}…; get it from the auditor"
        )
    return Verified("signature", holds=True, text="every field is signed by the key that was given")


def _links(path: Path, audit: AuditFile, site_keys: Mapping[str, str]) -> Verified:
    known = 0
    for link in audit.ledgers:
        checkpoint = parse_checkpoint(json.dumps(link.checkpoint))
        if checkpoint is None or not checkpoint.is_signed_by(checkpoint.public_key):
            raise EvidenceError(
                f"tampered audit: {path}: the checkpoint of {link.site} is not signed by its site; "
                "get it from the auditor again"
            )
        pinned = site_keys.get(link.site)
        if pinned is not None and pinned != checkpoint.public_key:
            raise EvidenceError(
                f"forged evidence: {path}: the ledger of {link.site} is signed by "
                f"{checkpoint.public_key[:16]}…, and its key is {pinned[:16]}…; ask its operator"
            )
        known += pinned is not None
    text = (
        f"{len(audit.ledgers)} ledger roots, each signed by its site's key; {known} of these keys "
        "were given (--site-keys)"
    )
    return Verified("ledgers", holds=known == len(audit.ledgers), text=text)


def _files(path: Path, audit: AuditFile, run: Path | None) -> Verified:
    if run is None:
        text = "the run's folder does not lie beside the file (--run FOLDER)"
        return Verified("files", holds=False, text=text)
    now = file_hashes(run)
    for name, sha256 in sorted(audit.files.items(), key=lambda file: file[0] in DRAWN_AGAIN):
        if now.get(name) != sha256:
            what = "was changed since the audit" if name in now else "is missing"
            remedy = "restore it, or audit again"
            if name in DRAWN_AGAIN:  # by `fedrec report`, perhaps; or by a liar
                remedy = (
                    "the records that it is drawn from are those examined; if `fedrec report` drew "
                    "it again, audit again"
                )
            raise EvidenceError(
                f"changed evidence: {run / name} {what} ({path} has its SHA-256); {remedy}"
            )
    surplus = sorted(set(now) - set(audit.files))
    if surplus:
        raise EvidenceError(
            f"changed evidence: {run / surplus[0]} was not there at the audit; remove it, or audit "
            "again"
        )
    return Verified("files", holds=True, text=f"{len(now)} files of {run} are those examined")


def _log(path: Path, content: Mapping[str, Any]) -> Verified:
    link = content["audit_log"]
    log = path.parent / link["file"]
    if not log.is_file():
        return Verified("audit log", holds=False, text=f"{log.name} does not lie beside the file")
    lines = read_log(log)
    if root_at(lines, link["tree_size"]) != link["root"]:
        raise EvidenceError(
            f"tampered audit: {log} is not the log that {path} was signed with; get both from the "
            "auditor again"
        )
    own = lines[link["pre_registration"] - 1 : link["tree_size"]]
    plan: dict[str, Any] = own[0] if own else {"kind": "none"}
    if (
        plan["kind"] != "pre_registration"
        or plan["content"]["plan"] != content["pre_registration"]
        or _logged(own, "finding") != content["findings"]
        or _logged(own, "opening") != [each for each in [content.get("opening")] if each]
    ):
        raise EvidenceError(
            f"tampered audit: {path} states another plan, other findings or another opening than "
            f"{log.name} has; get both from the auditor again"
        )
    return Verified(
        "audit log", holds=True, text=f"what would be tested was logged first, at {plan['time']}"
    )


def _logged(lines: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    return [line["content"] for line in lines if line["kind"] == kind]


def _page(path: Path, content: Mapping[str, Any], audit: AuditFile) -> Verified:
    page = path.with_name(AUDIT_PAGE)
    if not page.is_file():
        return Verified("page", holds=False, text=f"{page.name} does not lie beside the file")
    if audit.code.source_sha256 != provenance().source_sha256:
        text = f"{page.name} was drawn by another version of fedrec"
        return Verified("page", holds=False, text=text)
    drawn = hashlib.sha256(audit_page(dict(content)).encode("utf-8")).digest()
    if hashlib.sha256(page.read_bytes()).digest() != drawn:
        raise EvidenceError(
            f"tampered audit: {page} does not show what {path.name} says; draw it again from there"
        )
    return Verified("page", holds=True, text=f"{page.name} shows what {path.name} says")
