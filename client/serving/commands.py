"""``fedrec-site recommend`` and ``fedrec-site serve``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from client.site_option import AsJson, Site

if TYPE_CHECKING:
    from client.serving.access import TlsFiles

NewItems = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A table with item_id and text of items that the run did not know."
    ),
]
AsOf = Annotated[
    Literal["validation", "test"] | None,
    typer.Option(
        help="End histories before the run's held-out items, to compare with its figures."
    ),
]


def recommend(
    site: Site,
    user: Annotated[str | None, typer.Option(help="The id as the site's source has it.")] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(help="Instead of a user: an item that somebody new had; may be repeated."),
    ] = None,
    new_user: Annotated[
        bool, typer.Option("--new-user", help="Instead of a user: somebody who had nothing.")
    ] = False,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of somebody new, for a model that reads it."),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Length of the list.")] = 10,
    why: Annotated[
        bool,
        typer.Option("--why", help="Add to each item what of the history and its text counts."),
    ] = False,
    new_items: NewItems = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Print the list of one user, or of somebody new."""
    from client.serving.feedback import FEEDBACK_FILE, SERVING_FOLDER, FeedbackStore
    from client.serving.recommending import SiteRecommender, Visitor
    from client.serving.served import WhatToServe
    from client.serving.words import words_sentence
    from common.errors import ConfigError

    if sum([user is not None, bool(item), new_user]) != 1:
        raise ConfigError(["give exactly one of --user, --item and --new-user"])
    if user is not None and attribute:
        raise ConfigError(["--attribute is for somebody new; a user's are in the site's tables"])
    who = Visitor(tuple(item or ()), _pairs(attribute or [])) if user is None else user
    folder = site / SERVING_FOLDER
    has_feedback = (folder / FEEDBACK_FILE).exists()
    what = WhatToServe(site, new_items, as_of, with_words=why)
    recommender = SiteRecommender(what.load(), FeedbackStore(folder) if has_feedback else None)
    answer = recommender.recommend(who, k)
    offers = [offer._asdict() for offer in answer.offers]
    if why:
        for offer in offers:
            item_id = str(offer["item_id"])
            words = recommender.words(who, item_id, 3)
            told = recommender.explain(who, item_id, 3).sentence, words_sentence(words)
            offer["why"] = " ".join(filter(None, told))
            offer["words"] = [word._asdict() for word in words.reasons]
    if as_json:
        print(json.dumps({"adapter": answer.adapter, "items": offers}, ensure_ascii=False))
        return
    for place, offer in enumerate(offers, start=1):
        print(f"{place:3}. {offer['title']}  [{offer['item_id']}]  {offer['score']:.3f}")
        if why:
            print(f"     {offer['why']}")


def serve(
    site: Site,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="HOST:PORT, or unix:PATH.")
    ] = "127.0.0.1:50061",
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate (PEM) for TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Mutual TLS: only clients that this authority signed."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Bearer token. Default: SITE/serving/token, made here."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Requests answered at once.")] = 4,
    waiting: Annotated[
        int, typer.Option(min=0, max=10_000, help="Requests that may wait; more are refused.")
    ] = 64,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="For Prometheus, on this machine; 0: none.")
    ] = 0,
    rerank: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            help="Lists with variety: mmr:S, calibrated:S or cap:S, with S from 0 to 1.",
        ),
    ] = "greedy",
    words: Annotated[
        bool,
        typer.Option(
            "--words", help="Explain tells words of texts, too; keeps a copy of the text tower."
        ),
    ] = False,
    new_items: NewItems = None,
    as_of: AsOf = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="epsilon_greedy, ucb or thompson: explore, log and learn at the site; greedy: "
            "the plain scores. Default: SITE/serving/policy.toml, or greedy.",
        ),
    ] = None,
) -> None:
    """Serve recommendations over gRPC: lists, reasons, feedback; nothing leaves the site."""
    from client.serving.ending import EndInOrder

    end = EndInOrder()  # before the next imports, which start threads
    from client.serving.reranking import list_policy
    from client.serving.run import serve_site
    from client.serving.served import WhatToServe
    from client.serving.server import Limits

    serve_site(
        WhatToServe(
            site.resolve(), new_items, as_of, with_facts=rerank != "greedy", with_words=words
        ),
        listen,
        tls=_tls(tls_cert, tls_key, client_ca),
        token_file=token_file,
        limits=Limits(workers, waiting),
        metrics_port=metrics_port,
        rerank=list_policy(rerank),
        policy=policy,
        end=end,
    )


def page(
    site: Site,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this machine; 0: any.")] = 8765,
    new_items: NewItems = None,
    as_of: AsOf = None,
) -> None:
    """Show lists, reasons and a policy's effect on a page, on this machine alone."""
    from client.serving.page.run import serve_page
    from client.serving.served import WhatToServe

    serve_page(
        WhatToServe(site.resolve(), new_items, as_of, with_facts=True, with_words=True), port
    )


def _pairs(given: list[str]) -> dict[str, str]:
    from common.errors import ConfigError

    wrong = [each for each in given if not each.partition("=")[0] or "=" not in each]
    if wrong:
        raise ConfigError([f"--attribute must be NAME=VALUE, got {wrong[0]!a}; such as age=34"])
    return {each.partition("=")[0]: each.partition("=")[2] for each in given}


def _tls(certificate: Path | None, key: Path | None, authority: Path | None) -> TlsFiles | None:
    from client.serving.access import TlsFiles
    from common.errors import ConfigError

    if certificate is not None and key is not None:
        return TlsFiles(certificate, key, authority)
    if certificate is None and key is None and authority is None:
        return None
    raise ConfigError(["TLS needs both --tls-cert and --tls-key"])
