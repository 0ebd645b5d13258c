"""The stages of secure aggregation that neither train nor release: bytes in, bytes out."""

from __future__ import annotations

from client.secagg_site import SecAggSite
from common.errors import MessageError
from common.messages import SumStage
from common.secagg.messages import KeyList, SurvivorList, UnmaskRequest


def answer_stage(site: SecAggSite, stage: SumStage, payload: bytes, checkpoint: bytes) -> bytes:
    """The site's encoded message of `stage`.

    Args:
        site: its part in the round.
        stage: the stage.
        payload: the server's message.
        checkpoint: the ledger's newest, which goes out with the site's keys.

    Raises:
        SecAggRefusal: the server or a peer broke the protocol.
        MessageError: `payload` is not the stage's message, or must be empty and is not.
    """
    match stage:
        case "advertise":
            if payload:
                raise MessageError("the first stage of a secure sum carries no message")
            return site.advertise(checkpoint).encode()
        case "share_keys":
            return site.share_keys(KeyList.decode(payload)).encode()
        case "sign_survivors":
            return site.sign_survivors(SurvivorList.decode(payload)).encode()
        case "unmask":
            return site.unmask(UnmaskRequest.decode(payload)).encode()
        case _:
            raise MessageError(f"stage {stage} is not answered without a release")
