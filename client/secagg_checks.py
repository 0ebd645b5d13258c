"""What a site checks in each of the server's messages; every fault is a `SecAggRefusal`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from common.errors import SecAggRefusal
from common.secagg.keys import is_signed
from common.secagg.messages import KeyAdvert, KeyList, ShareDelivery
from common.secagg.round_spec import RoundSpec
from common.secagg.wire import check_sorted


def check_context(spec: RoundSpec, context: bytes) -> None:
    """Refuse a message of another round."""
    if context != spec.context:
        raise SecAggRefusal("wrong_round", "the server's message belongs to another round")


def check_adverts(
    spec: RoundSpec, peers: Mapping[str, bytes], own: KeyAdvert, message: KeyList
) -> dict[str, KeyAdvert]:
    """The adverts by site, each signed by its pinned identity for this round and config."""
    check_sorted([advert.site for advert in message.adverts])
    adverts = {advert.site: advert for advert in message.adverts}
    if adverts.get(own.site) != own:
        raise SecAggRefusal("swapped_key", f"the list does not hold {own.site}'s own keys")
    invited = set(spec.participants) & set(peers)
    for site, advert in adverts.items():
        if site == own.site:
            continue
        if site not in invited:
            raise SecAggRefusal("unknown_peer", f"{site} is not invited or not pinned")
        _check_advert(spec, peers[site], advert)
    _check_enough(spec, len(adverts), "advertised keys")
    return adverts


def _check_advert(spec: RoundSpec, identity: bytes, advert: KeyAdvert) -> None:
    site = advert.site
    if not is_signed(identity, advert.signature, advert.signed):
        raise SecAggRefusal("bad_signature", f"the keys of {site} are not signed by its identity")
    if advert.context == spec.context:
        return
    if advert.neutral_context == spec.context_without_config:
        raise SecAggRefusal("config_mismatch", f"{site} was given another config than this site")
    raise SecAggRefusal("wrong_round", f"the keys of {site} are of another round")


def check_sharers(
    spec: RoundSpec,
    site: str,
    adverts: Collection[str],
    neighbours: frozenset[str],
    message: ShareDelivery,
) -> frozenset[str]:
    """The neighbours that shared; the delivery must hold the shares of exactly these."""
    check_sorted(message.sharers)
    check_sorted([name for name, _ in message.sealed])
    sharers = set(message.sharers)
    if site not in sharers or not sharers <= set(adverts):
        raise SecAggRefusal("inconsistent", "the list of sharers does not follow from the keys")
    _check_enough(spec, len(sharers), "shared")
    sharing = neighbours & sharers
    if {name for name, _ in message.sealed} != sharing:
        raise SecAggRefusal("inconsistent", "the shares are not those of the sharing neighbours")
    return sharing


def check_survivors(
    spec: RoundSpec, site: str, sharers: Collection[str], survivors: Sequence[str]
) -> None:
    """Survivors are sharers, this site among them, and enough of them."""
    check_sorted(survivors)
    if site not in survivors or not set(survivors) <= set(sharers):
        raise SecAggRefusal("inconsistent", "the survivors are not sharers, or lack this site")
    _check_enough(spec, len(survivors), "survived")


def check_signatures(
    spec: RoundSpec,
    peers: Mapping[str, bytes],
    survivors: Collection[str],
    signed: bytes,
    signatures: Sequence[tuple[str, bytes]],
) -> None:
    """At least n − D survivors signed exactly what this site signed."""
    check_sorted([name for name, _ in signatures])
    alive = set(survivors)
    for name, signature in signatures:
        if name not in alive:
            raise SecAggRefusal("inconsistent", f"{name} signed but is no survivor")
        if not is_signed(peers[name], signature, signed):
            raise SecAggRefusal(
                "inconsistent", f"{name} did not sign the keys and sets that this site saw"
            )
    _check_enough(spec, len(signatures), "signed the survivors")


def _check_enough(spec: RoundSpec, count: int, did: str) -> None:
    if count < spec.min_survivors:
        raise SecAggRefusal(
            "below_threshold", f"{count} sites {did}, {spec.min_survivors} are needed"
        )
