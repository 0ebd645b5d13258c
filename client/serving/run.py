"""``fedrec-site serve``: from a site's folder to a service, and an orderly end."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from client.resident.socket_file import only_agent
from client.serving.access import TlsFiles, own_token, read_token
from client.serving.choice_log import ChoiceLog
from client.serving.ending import EndInOrder
from client.serving.feedback import SERVING_FOLDER, FeedbackStore
from client.serving.learning_policy import LearningPolicy
from client.serving.list_policy import Greedy, ListPolicy
from client.serving.metrics import ServedCollector, ServingMetrics
from client.serving.policy_settings import PolicySettings, policy_settings
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.reranking import check_facts
from client.serving.served import WhatToServe
from client.serving.server import Limits, serving
from client.serving.swapping import Swapper, stamp
from common.atomic_files import file_errors
from common.errors import ConfigError
from common.logs import configure_log
from common.loopback import metrics_served

LOCK_FILE = "lock"
LOOPBACK = "127.0.0.1"

logger = logging.getLogger("fedrec-site")


def serve_site(
    what: WhatToServe,
    listen: str,
    *,
    tls: TlsFiles | None,
    token_file: Path | None,
    limits: Limits,
    metrics_port: int,
    rerank: ListPolicy,
    policy: str | None,
    end: EndInOrder,
) -> None:
    """Serves recommendations until SIGTERM or SIGINT.

    Args:
        what: the site's folder, and what beside it.
        listen: ``HOST:PORT`` or ``unix:PATH``.
        tls: None: plain text, on this machine alone.
        token_file: None: the site's own, made at the first start; not needed under mutual TLS.
        limits: how much is taken on.
        metrics_port: for Prometheus, on this machine; 0: none.
        rerank: chooses the lists where no policy learns.
        policy: name of one that learns; None: what the site's file says, or `rerank`.
        end: made before this module was imported.

    Raises:
        FedrecError: the site cannot be served, or is served already.
    """
    configure_log("client", logger.name)
    torch.set_num_threads(1)  # a query is small; the requests beside it use the other cores
    settings = policy_settings(what.site / SERVING_FOLDER, policy)
    if settings is not None and rerank.name != Greedy.name:
        raise ConfigError(
            [
                f"policy {settings.name} needs the chance of each place, which --rerank "
                f"{rerank.name} would change; give --policy greedy, or leave out --rerank"
            ]
        )
    seen = stamp(what.site)
    served = what.load()  # a folder that is no site must get no file
    check_facts(rerank, served.facts)
    folder = what.site / SERVING_FOLDER
    with file_errors("make", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    with (
        only_agent(folder / LOCK_FILE, f"site {what.site}"),
        closing(FeedbackStore(folder)) as feedback,
        _policy(settings, rerank, folder, feedback) as chooser,
    ):
        recommender = SiteRecommender(served, feedback, chooser)
        # The first call of everything is slow. Nobody sees this list: it must not be logged.
        recommender.recommend(Visitor(), 1, policy=chooser)
        gc.collect()
        gc.freeze()
        token, metrics = _token(folder, token_file, tls), ServingMetrics()
        metrics.registry.register(ServedCollector(recommender, feedback))
        with (
            Swapper(what, recommender, seen, metrics),
            metrics_served(metrics.registry, LOOPBACK, metrics_port),
            serving(
                recommender, listen, token=token, tls=tls, limits=limits, metrics=metrics
            ) as service,
        ):
            end.ready()
            logger.info("%s", _greeting(recommender, service.address, folder, token_file, tls))
            end.wait()
            logger.info("ending: what is in flight is answered, nothing new is taken")
    logger.info("ended")


@contextmanager
def _policy(
    settings: PolicySettings | None, rerank: ListPolicy, folder: Path, feedback: FeedbackStore
) -> Iterator[ListPolicy]:
    if settings is None:
        yield rerank
        return
    with (
        closing(ChoiceLog(folder, settings.kept_lists)) as log,
        LearningPolicy(settings, log, feedback) as learner,
    ):
        yield learner


def _token(folder: Path, given: Path | None, tls: TlsFiles | None) -> str | None:
    if given is not None:
        return read_token(given)
    is_mutual = tls is not None and tls.client_authority is not None
    return None if is_mutual else own_token(folder)


def _greeting(
    recommender: SiteRecommender,
    address: str,
    folder: Path,
    token_file: Path | None,
    tls: TlsFiles | None,
) -> str:
    served = recommender.served
    how = "plain text on this machine" if tls is None else "TLS"
    is_mutual = tls is not None and tls.client_authority is not None
    who = "clients with a certificate" if is_mutual else "clients with the token in "
    if not is_mutual:
        who += str(token_file or folder / "token")
    elif token_file is not None:
        who += f" and the token in {token_file}"
    return (
        f"serving site {served.site} on {address} ({how}; {who}): adapter {served.adapter} of run "
        f"{served.manifest.run}, {len(served.items)} items, policy {recommender.policy}"
    )
