"""The agent's socket: many connections at once, one answer at a time.

Threads of connections only move bytes. What answers is the one thread that calls `serve`,
so that a site never does two things at once. A connection carries one request and gets one
frame back; whatever is wrong with it ends that connection and no other.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from client.resident.peer_credentials import Peer, check_peer, peer_of
from client.resident.protocol import Limits, Request, encode_fault, parse_request, read_frame
from common.errors import FedrecError

MAX_CONNECTIONS = 8
SEND_S = 60.0
ABANDONED_S = 1.0
ACCEPT_RETRY_S = 0.2

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Ticket:
    """A request that waits for its turn; `answer` is there once `is_done` is set."""

    request: Request
    peer: Peer
    connection: socket.socket
    answer: bytes = b""
    is_done: threading.Event = field(default_factory=threading.Event)

    def is_abandoned(self) -> bool:
        """Whether the peer has gone: nobody is left to be answered."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class AgentServer:
    """Serves one site on a listening Unix socket; see the module's docstring."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Callable[[Request], bytes],
        allowed: Collection[int],
        *,
        limits: Limits | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Binds socket, site and limits.

        Args:
            listener: a listening Unix socket.
            answer: the frame that answers a request; it raises nothing.
            allowed: users (uid) that may ask.
            limits: of a connection.
            max_connections: that are open at once; one more is told that the agent is busy.
        """
        self._listener = listener
        self._answer = answer
        self._allowed = allowed
        self._limits = limits or Limits()
        self._slots = threading.BoundedSemaphore(max_connections)
        self._has_ended = threading.Event()
        self._tickets: queue.Queue[_Ticket | None] = queue.Queue()

    def serve(self) -> None:
        """Answers until `stop`."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        try:
            while (ticket := self._tickets.get()) is not None:
                if ticket.is_abandoned():
                    logger.info("process %d has gone; its request is dropped", ticket.peer.pid)
                else:
                    ticket.answer = self._answer(ticket.request)
                ticket.is_done.set()
        finally:
            self._has_ended.set()

    def stop(self) -> None:
        """Ends `serve` after the requests that wait; to be called from another thread."""
        self._tickets.put(None)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._has_ended.is_set():
                    return
                logger.warning("a connection could not be accepted: %s", error)
                time.sleep(ACCEPT_RETRY_S)
                continue
            if self._slots.acquire(blocking=False):
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()
            else:
                logger.warning("too many connections at once; one was turned away")
                with connection:
                    connection.setblocking(False)  # a fault fits into the socket's buffer
                    _send(connection, encode_fault("the site agent is busy; try again later"))

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            try:
                reply = self._reply(connection)
            except OSError as error:
                logger.warning("a connection broke: %s", error)
            else:
                connection.settimeout(SEND_S)
                _send(connection, reply)
            finally:
                self._slots.release()

    def _reply(self, connection: socket.socket) -> bytes:
        peer = peer_of(connection)
        try:
            check_peer(peer, self._allowed)
            request = parse_request(read_frame(connection, self._limits))
        except FedrecError as fault:
            logger.warning("process %d of user %d: %s", peer.pid, peer.uid, fault)
            return encode_fault(str(fault))
        connection.setblocking(False)  # so that looking whether the peer is there takes no time
        ticket = _Ticket(request, peer, connection)
        self._tickets.put(ticket)
        while not ticket.is_done.wait(ABANDONED_S):
            if ticket.is_abandoned():  # its place is free again, whatever is being answered
                break
        return ticket.answer


def _send(connection: socket.socket, content: bytes) -> None:
    """Sends to a peer that may have gone; what was released stays in the ledger for a retry."""
    try:
        connection.sendall(content)
    except OSError as error:
        logger.warning("an answer could not be delivered: %s", error)
