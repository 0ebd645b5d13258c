"""The relay: the agent's answer, or a refusal in one line; and it stays light."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict

import client.app
from client.resident.protocol import Request, encode_answer, encode_fault
from client.resident.relay import relay
from common.bundle_hash import bundle_root, bundle_sha256
from common.messages import RefusalReply, decode_refusal
from simulations.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.client.resident.conftest import serving
from tests.scripted_sites import small_config

FLAT = small_config(1).to_flat()


def refused(path: Path | str, **run_config: Any) -> RefusalReply:
    content = relay(str(path), "train", "3", RecordDict(), {**FLAT, **run_config})
    return decode_refusal(content, server_round=3)


def test_the_app_hands_on_what_it_got_and_what_came_back(short_folder: Path) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> bytes:
        seen.append(request)
        return encode_answer(RecordDict({"m": ConfigRecord({"said": "this"})}))

    path = short_folder / "app" / "a.sock"
    with serving(path, answer=answer):
        InProcessGrid(client.app.app, 1, 5, FLAT)  # sets the identity that messages carry
        message = Message(RecordDict(), FIRST_NODE_ID, "train", group_id="3")
        node_config = {"agent-socket": str(path), "partition-id": 0}
        context = Context(5, FIRST_NODE_ID, node_config, RecordDict(), FLAT)
        reply = client.app.app(message, context).content
    assert reply["m"] == {"said": "this"}
    (request,) = seen
    assert (request.head.message_type, request.head.group) == ("train", "3")
    assert request.head.run_config == FLAT
    assert request.head.code_sha256 == bundle_sha256(bundle_root())


def test_no_agent_is_a_refusal(short_folder: Path) -> None:
    reply = refused(short_folder / "nowhere.sock")
    assert (reply.code, reply.site) == ("SiteAgentError", "")
    assert reply.reason == "no site agent listens here; start `fedrec-site run`"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_folder / "dead.sock"))
    assert "has ended" in refused(short_folder / "dead.sock").reason
    for wrong in ("/" + "x" * 200, "a\0b", "", "/etc"):
        reply = refused(wrong)
        assert reply.code == "SiteAgentError"
        assert "\n" not in reply.reason


def test_a_fault_of_the_agent_is_a_refusal(short_folder: Path) -> None:
    path = short_folder / "fault" / "a.sock"
    with serving(path, answer=lambda request: encode_fault("because")):
        assert refused(path).reason == "because"
    with serving(path, allowed=set()):
        assert f"user {os.geteuid()} may not ask" in refused(path).reason
    with serving(path, answer=lambda request: b"nonsense that is no frame"):
        assert "did not answer" in refused(path).reason


def test_an_agent_that_is_silent_or_ends_is_a_refusal(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_folder / "silent.sock"))
        listener.listen()
        asked = {"federation.round_deadline_s": 0.2}
        reply = refused(short_folder / "silent.sock", **asked)
        assert (reply.code, "stopped after 0 bytes" in reply.reason) == ("SiteAgentError", True)

        def end_at_once() -> None:
            listener.accept()[0].close()  # the silent request from before
            connection, _ = listener.accept()
            connection.recv(10)
            connection.close()

        ending = threading.Thread(target=end_at_once)
        ending.start()
        assert "did not answer" in refused(short_folder / "silent.sock").reason
        ending.join()


def test_a_message_that_no_frame_can_hold_is_a_refusal(short_folder: Path) -> None:
    content = relay(str(short_folder / "x.sock"), "x" * 300, "3", RecordDict(), FLAT)
    assert decode_refusal(content, server_round=3).code == "MessageError"


def test_a_socket_that_may_not_be_opened_is_a_refusal(short_folder: Path) -> None:
    code = """
import os, sys
from flwr.app import RecordDict
import client.refusal_reply
from client.resident.relay import relay
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(54321); os.setuid(54321)
print(relay(sys.argv[1], "train", "3", RecordDict(), {}))
"""
    path = short_folder / "closed" / "a.sock"
    with serving(path):
        path.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "may not open the agent's socket" in done.stdout


def test_the_relay_brings_no_model_code_along() -> None:
    code = "import sys, client.app; print(sorted({'torch', 'opacus', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
