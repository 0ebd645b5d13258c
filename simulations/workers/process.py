"""A worker: the nodes of its sites, in a process and on a device of its own."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from flwr.app import UserConfig

from client.app import build_client_app
from common.config_loading import load_config
from common.errors import FedrecError
from simulations.gathering import GatheringTrainer
from simulations.message_desk import chunks_of, take_identity
from simulations.simulated_nodes import SimulatedNodes
from simulations.trainers import batch_trainer
from simulations.workers.wire import FAULT, READY, Share, message_from_bytes, send_reply

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is started with.

    Attributes:
        nodes: number of nodes of the whole run.
        run_id: Flower's number of the run.
        run_config: flat run config, with the worker's own threads and device.
        batch: most sites that train together.
    """

    nodes: int
    run_id: int
    run_config: UserConfig
    batch: int


def work(connection: Connection, task: WorkerTask) -> None:
    """Answers shares of messages until the other end of the pipe is closed.

    A fault that is no site's own ends the worker; its line goes over the pipe. Ctrl-C
    reaches every process of a terminal: the run's own process alone acts on it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        delivery = _delivery(task)
        connection.send_bytes(READY)
        for share in _shares(connection):
            _answer(connection, delivery, share, task.batch)
    except (EOFError, ConnectionError):  # the run is over
        return
    except FedrecError as fault:
        _tell(connection, str(fault))
    except Exception as fault:
        logger.exception("a worker failed")
        _tell(connection, f"{type(fault).__name__}: {fault}")


def _delivery(task: WorkerTask) -> SimulatedNodes:
    config = load_config(flat=task.run_config)
    torch.set_num_threads(config.engine.threads)
    take_identity(task.run_id)
    gathering = GatheringTrainer(batch_trainer(config))
    return SimulatedNodes(
        build_client_app(gathering), task.nodes, task.run_id, task.run_config, gathering=gathering
    )


def _shares(connection: Connection) -> Iterator[Share]:
    while True:
        yield connection.recv()


def _answer(connection: Connection, delivery: SimulatedNodes, share: Share, batch: int) -> None:
    """Answers every message of a share: with its reply, or that it was too late."""
    end = None if share.left_s is None else time.monotonic() + share.left_s
    messages = [message_from_bytes(connection.recv_bytes()) for _ in range(share.messages)]
    for chunk in chunks_of(messages, batch):
        left_s = None if end is None else end - time.monotonic()
        for reply in delivery.answers(chunk, left_s):
            send_reply(connection, reply)


def _tell(connection: Connection, line: str) -> None:
    connection.send_bytes(FAULT + " ".join(line.split()).encode())
