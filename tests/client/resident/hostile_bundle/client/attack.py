"""Everything a hostile bundle can think of asking; what it got goes into a JSON file."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto

from common.config_loading import load_config
from common.initial_adapter import initial_adapter
from common.messages import (
    EvaluateRequest,
    PopularityRequest,
    TrainRequest,
    encode_evaluate_request,
    encode_popularity_request,
    encode_train_request,
)

NO_PRIOR = np.zeros(0, dtype=np.float32)
MOST_RUNS = 60


class Attack:
    """Prepared with all rights, run with those of the SuperNode's user."""

    def __init__(self, node: Mapping[str, Any], flat: dict[str, Any]) -> None:
        self.socket, self.loot_file = str(node["agent-socket"]), Path(str(node["loot"]))
        self.own, self.other = Path(str(node["own"])), Path(str(node["other"]))
        self.flat, self.loot = flat, {}
        other = str(self.other.parent)
        loud = {"privacy.popularity_noise_multiplier": 0.01}
        loud_step = {"privacy.noise_multiplier": 0.6, "privacy.target_epsilon": 1e6}
        self.frames: dict[str, bytes] = {
            "exact update": self.train({"privacy.mode": "none"}),
            "seeded noise": self.train({"privacy.insecure_seeded_noise": True}, "seeded"),
            "exact metrics": self.evaluate({}),
            "popularity with tiny noise": self.popularity("tiny", loud),
            "update with little noise": self.train(loud_step, "loud"),
            "a step with a million epsilon": self.train({"privacy.target_epsilon": 1e6}, "million"),
            "weights of another site": self.popularity("w", {"model.weights": str(self.other)}),
            "weights of a system folder": self.popularity("w2", {"model.weights": "/etc"}),
            "another site's folder": self.popularity("f", {"data.sites_folder": other}),
            "another node config": self.frame(
                "query.popularity", RecordDict(), flat, node_config={"site-folder": str(self.other)}
            ),
            "stated code hash": self.frame("query.popularity", RecordDict(), flat, code_sha256="x"),
            "unknown message": self.frame("query.everything", RecordDict(), flat),
            "honest update": self.train({}, "honest"),
        }
        self.runs = [self.popularity(f"run-{n}", {}) for n in range(MOST_RUNS)]
        self.after = self.train({"federation.seed": 1}, "after")

    def config(self, change: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        flat = {**self.flat, **change}
        return flat, load_config(flat=flat)

    def train(self, change: dict[str, Any], run: str = "train") -> bytes:
        flat, config = self.config(change)
        asked = TrainRequest(run, 1, config.sha256(), initial_adapter(config), NO_PRIOR)
        return self.frame("train", encode_train_request(asked), flat)

    def evaluate(self, change: dict[str, Any]) -> bytes:
        flat, config = self.config(change)
        start = initial_adapter(config)
        asked = EvaluateRequest("eval", 1, config.sha256(), start, NO_PRIOR, "test")
        return self.frame("evaluate", encode_evaluate_request(asked), flat)

    def popularity(self, run: str, change: dict[str, Any]) -> bytes:
        flat, config = self.config(change)
        asked = PopularityRequest(run, config.sha256())
        return self.frame("query.popularity", encode_popularity_request(asked), flat)

    def frame(self, kind: str, content: RecordDict, flat: dict[str, Any], **more: Any) -> bytes:
        head = {"message_type": kind, "group": "1", "run_config": flat, **more}
        text, body = json.dumps(head).encode(), recorddict_to_proto(content).SerializeToString()
        return struct.pack(">4sBII", b"FdR1", 1, len(text), len(body)) + text + body

    def run(self) -> None:
        try:
            self.loot["oversized frame"] = self.ask(struct.pack(">4sBII", b"FdR1", 1, 9, 2**32 - 1))
            self.loot["garbage"] = self.ask(b"\x00" * 1000)
            for name, content in self.frames.items():
                self.loot[name] = self.ask(content)
            self.loot["runs"] = [self.ask(content) for content in self.runs]
            self.loot["after"] = self.ask(self.after)
            self.loot["files"] = {str(path): self.read(path) for path in self.files()}
            self.loot["policy"] = self.write(self.own / "policy.toml")
        except BaseException as fault:  # noqa: BLE001 - told to the test, which fails on it
            self.loot["broke"] = repr(fault)
        finally:
            self.loot_file.write_text(json.dumps(self.loot))

    def files(self) -> list[Path]:
        names = ("interactions.parquet", "users.parquet", "ledger.sqlite", "policy.toml")
        own = [self.own / name for name in (*names, "keys/identity.key", "agent.lock")]
        return [*own, self.other / "interactions.parquet", self.other / "keys/identity.key"]

    def ask(self, content: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(300)
            connection.connect(self.socket)
            with suppress(BrokenPipeError):
                connection.sendall(content)
            answer = b""
            with suppress(ConnectionResetError):
                while part := connection.recv(1 << 16):
                    answer += part
        _, kind, head, _ = struct.unpack(">4sBII", answer[:13])
        if kind == 3:
            return {"fault": answer[13 : 13 + head].decode()}
        reply = recorddict_from_proto(RecordDictProto.FromString(answer[13 + head :]))
        return {**reply.config_records["meta"], "arrays": sorted(reply.array_records)}

    def read(self, path: Path) -> str:
        try:
            return f"read {len(path.read_bytes())} bytes"
        except OSError as error:
            return type(error).__name__

    def write(self, path: Path) -> str:
        try:
            path.write_text("max_epsilon = 1e9\n")
        except OSError as error:
            return type(error).__name__
        return "written"
