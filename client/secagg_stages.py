"""The stages of secure aggregation that neither train nor release: bytes in, bytes out."""

from __future__ import annotations

from client.secagg_site import SecAggSite
from common.errors import MessageError
from common.messages import SumStage
from common.secagg.messages import KeyList, SurvivorList, UnmaskRequest


def answer_stage(site: SecAggSite, stage: SumStage, payload: bytes) -> bytes:
    """The site's encoded message of `stage`.

    Raises:
        SecAggRefusal: the server or a peer broke the protocol.
        MessageError: `payload` is not the stage's message.
    """
    match stage:
        case "advertise":
            raise MessageError("the round was entered before, with another message")
        case "share_keys":
            return site.share_keys(KeyList.decode(payload)).encode()
        case "sign_survivors":
            return site.sign_survivors(SurvivorList.decode(payload)).encode()
        case "unmask":
            return site.unmask(UnmaskRequest.decode(payload)).encode()
        case _:
            raise MessageError(f"stage {stage} is not answered without a release")
