"""One site as its resident agent serves it: the operator's folder, policy and ledger.

Data, keys and policy are read once, when the agent starts. What a relay sends can choose a
run's settings, within the policy; it can never choose a folder, a policy or a file.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import RecordDict

from client.agent import SiteAgent
from client.answering import answer_by
from client.policy import SitePolicy
from client.refusal_reply import refusal_reply
from client.resident.protocol import Request, content_from_bytes, encode_answer
from client.site_data import load_site
from client.site_setup import ledger_of, policy_of
from common.base_weights import resolve_base_weights
from common.bundle_hash import verified_signers
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import MessageError, PolicyRefusal, Refusal, WeightsError
from common.messages import is_refusal

_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")

logger = logging.getLogger(__name__)


class ResidentSite:
    """Answers requests for the site in one folder; see the module's docstring."""

    def __init__(
        self, folder: Path, heard: Callable[[str, str], None] = lambda message, code: None
    ) -> None:
        """Reads the site's data and policy, and opens its ledger.

        Without a ``policy.toml`` the strict default holds, also for a simulated site: the
        lab's policy would follow the coordinator's settings.

        Args:
            folder: the site's.
            heard: told of every answer: the message's type, and a refusal's code, else "".

        Raises:
            FedrecError: data, policy or ledger cannot be used.
        """
        self._heard = heard
        self.data = load_site(folder)
        self.policy = policy_of(folder, RunConfig(), is_simulated=False)
        self.ledger = ledger_of(folder, self.data, self.policy).open()
        self._agent = lru_cache(maxsize=4)(self._new_agent)

    def answer(self, request: Request) -> bytes:
        """The frame that answers `request`; every fault becomes a refusal."""
        head, started, run = request.head, time.monotonic(), ""
        try:
            content = content_from_bytes(request.body)
        except MessageError as fault:
            reply = refusal_reply(head.group, self.data.site, fault, str(fault))
        else:
            run = _key(request, content)[0]
            reply = answer_by(
                lambda: self._find_agent(request, content),
                head.message_type,
                head.group,
                content,
                site=self.data.site,
            )
        # To the second: whoever asked, or sees the network, knows it no less finely.
        seconds, code = round(time.monotonic() - started), _code(reply)
        outcome, why = ("refused", f" ({code})") if code else ("answered", "")
        told = {"message_type": head.message_type, "server_round": head.group}
        about = {"run": run, "site": self.data.site, "outcome": outcome, "seconds": seconds}
        line = "%a in group %a: %s%s, %d s"
        extra = {**told, **about} | ({"code": code} if code else {})
        logger.info(line, *told.values(), outcome, why, seconds, extra=extra)
        self._heard(head.message_type, code)
        return encode_answer(reply)

    def _find_agent(self, request: Request, content: RecordDict) -> tuple[SiteAgent, RunConfig]:
        try:
            self._check_code(request)
            config = load_config(flat=request.head.run_config)
            # Which folder is served is not the coordinator's to say.
            data = config.data.model_copy(update={"sites_folder": ""})
            config = config.model_copy(update={"data": data})
            check_weights_name(config.model.weights, self.policy)
            self._check_weights(config.model.weights)
        except Refusal as refusal:
            self.ledger.record_refusal(_key(request, content), refusal)
            raise
        return self._agent(config), config

    def _check_code(self, request: Request) -> None:
        stated = request.head.code_sha256
        signers = verified_signers(stated, request.head.signatures) if stated else ()
        self.policy.check_code(stated, signers)

    def _check_weights(self, name: str) -> None:
        """Before anything is read of weights, or asked of a hub, that the policy does not list."""
        if self.policy.base_weights_sha256 is not None:
            self.policy.check_base_weights(resolve_base_weights(name).sha256)

    def _new_agent(self, config: RunConfig) -> SiteAgent:
        return SiteAgent(self.data, config, self.policy, self.ledger)


def check_weights_name(name: str, policy: SitePolicy) -> None:
    """Refuse base weights in a folder of this machine, unless the policy lists their hash.

    The answer is the same whether there is such a folder or not: the coordinator must not
    be able to feel its way through the site's disk. (A name of a hub's form is told from a
    folder's only by looking, relative to the agent's working directory; so the agent's unit
    file starts it in a folder of its own.)

    Raises:
        PolicyRefusal: it is a path, and not of weights that the policy lists.
    """
    is_path = _HUB_NAME.fullmatch(name) is None or os.path.isdir(name)
    if is_path and not _is_listed(name, policy):
        raise PolicyRefusal(
            f"model.weights={name[:80]!a} is a path; this site takes base weights from a folder "
            "only where base_weights_sha256 of its policy lists them"
        )


def _is_listed(name: str, policy: SitePolicy) -> bool:
    if policy.base_weights_sha256 is None:
        return False
    try:
        found = resolve_base_weights(name)
    except (WeightsError, OSError, ValueError):  # ValueError: a path with a NUL
        return False
    return found.source == "folder" and found.sha256 in policy.base_weights_sha256


def _key(request: Request, content: RecordDict) -> tuple[str, int, str]:
    """What a refusal is entered under; the run's name is what the request says."""
    meta, group = content.config_records.get("meta"), request.head.group
    run = None if meta is None else meta.get("run")
    server_round = int(group) if group.isdecimal() and len(group) < 18 else 0
    name = run[:200] if isinstance(run, str) and run else "unnamed"
    return name, server_round, request.head.message_type


def _code(reply: RecordDict) -> str:
    """The code of a refusal; empty where the reply is none."""
    return str(reply.config_records["meta"]["code"]) if is_refusal(reply) else ""
