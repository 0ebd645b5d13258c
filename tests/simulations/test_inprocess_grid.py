from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run

from client.site_by_site import SITE_BY_SITE
from client.training_job import TrainingJob
from common.adapters import Adapter
from simulations.batch_trainer import OneByOne
from simulations.gathering import GatheringTrainer
from simulations.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.training_jobs import job_of


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def echo_app() -> ClientApp:
    """Answers with what the site sees."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seen = ConfigRecord(
            {
                "partition": int(context.node_config["partition-id"]),
                "partitions": int(context.node_config["num-partitions"]),
                "node": context.node_id,
                "run": context.run_id,
                "key": str(context.run_config["data.dataset"]),
            }
        )
        return Message(RecordDict({"seen": seen}), reply_to=message)

    return app


def grid_of(app: ClientApp, nodes: int = 3, **options: Clock) -> InProcessGrid:
    return InProcessGrid(app, nodes, 77, {"data.dataset": "synthetic"}, **options)


def ask(grid: InProcessGrid, kind: str = "train", **options: float) -> list[Message]:
    return [
        Message(RecordDict(), node, kind, group_id="4", **options) for node in grid.get_node_ids()
    ]


def test_it_is_a_grid_and_delivers_to_every_node_in_order() -> None:
    grid = grid_of(echo_app())
    assert isinstance(grid, Grid)
    seen = [
        dict(reply.content.config_records["seen"]) for reply in grid.send_and_receive(ask(grid))
    ]
    assert seen == [
        {
            "partition": i,
            "partitions": 3,
            "node": FIRST_NODE_ID + i,
            "run": 77,
            "key": "synthetic",
        }
        for i in range(3)
    ]


def test_ids_are_set_as_flower_sets_them() -> None:
    grid = grid_of(echo_app())
    messages = ask(grid)
    assert all(message.metadata.message_id == "" for message in messages)
    replies = list(grid.send_and_receive(messages))
    for message, reply in zip(messages, replies, strict=True):
        sent, got = message.metadata, reply.metadata
        assert sent.message_id
        assert got.reply_to_message_id == sent.message_id
        assert got.message_id not in ("", sent.message_id)
        assert (got.run_id, got.group_id, got.message_type) == (77, "4", "train")
        assert (got.src_node_id, got.dst_node_id) == (sent.dst_node_id, sent.src_node_id)
    assert len({reply.metadata.message_id for reply in replies}) == 3


def test_push_and_pull_do_the_same() -> None:
    grid = grid_of(echo_app())
    keys = grid.push_messages(ask(grid))
    assert len(set(keys)) == 3
    first = grid.pull_messages(keys[:1])
    assert [reply.metadata.reply_to_message_id for reply in first] == keys[:1]
    assert len(grid.pull_messages(keys)) == 2
    assert grid.pull_messages(keys) == []


def test_a_failing_site_is_an_error_reply_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            raise RuntimeError("no disk")
        return Message(RecordDict(), reply_to=message)

    grid = grid_of(app)
    replies = list(grid.send_and_receive(ask(grid)))
    assert [reply.has_error() for reply in replies] == [False, True, False]
    error = replies[1].error
    assert error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert "no disk" in str(error.reason)
    assert replies[1].metadata.message_id
    assert "no disk" in caplog.text


def test_an_unknown_message_type_is_an_error_reply() -> None:
    grid = grid_of(echo_app())
    assert all(reply.has_error() for reply in grid.send_and_receive(ask(grid, "query.other")))


def test_an_interruption_passes_through() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise KeyboardInterrupt

    grid = grid_of(app)
    with pytest.raises(KeyboardInterrupt):
        list(grid.send_and_receive(ask(grid)))


def test_the_deadline_holds_between_sites_and_for_the_one_at_work() -> None:
    clock = Clock()
    visited = []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        visited.append(context.node_config["partition-id"])
        clock.now += 4.0
        return Message(RecordDict(), reply_to=message)

    grid = grid_of(app, 5, clock=clock)
    # 4 s and 8 s are in time, the third ends at 12 s: too late, and nobody else is asked
    assert len(list(grid.send_and_receive(ask(grid), timeout=10.0))) == 2
    assert visited == [0, 1, 2]
    assert len(list(grid.send_and_receive(ask(grid), timeout=None))) == 5


def test_only_a_state_that_holds_something_is_kept() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 2:
            visits = context.state.config_records.get("visits", ConfigRecord({"n": 0}))
            context.state["visits"] = ConfigRecord({"n": int(str(visits["n"])) + 1})
        return Message(RecordDict(dict(context.state)), reply_to=message)

    grid = grid_of(app)
    list(grid.send_and_receive(ask(grid)))
    replies = list(grid.send_and_receive(ask(grid)))
    assert replies[2].content.config_records["visits"]["n"] == 2
    assert len(replies[0].content) == 0
    assert grid.kept_states == 1


def test_a_site_cannot_change_the_run_config_of_another() -> None:
    app = ClientApp()
    values = []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        values.append(context.run_config["data.dataset"])
        context.run_config["data.dataset"] = "changed"
        return Message(RecordDict(), reply_to=message)

    list((grid := grid_of(app)).send_and_receive(ask(grid)))
    assert values == ["synthetic"] * 3


def test_messages_of_another_run_or_node_are_refused() -> None:
    grid = grid_of(echo_app())
    messages = ask(grid)
    other = grid_of(echo_app())
    other.set_run(Run.create_empty(78))
    with pytest.raises(ValueError, match="is not for this grid"):
        other.push_messages(messages)
    grid.set_run(grid.run)
    with pytest.raises(ValueError, match="is not for this grid"):
        grid.push_messages([Message(RecordDict(), FIRST_NODE_ID + 3, "train")])
    reply = next(grid.send_and_receive(ask(grid)))
    reply.metadata.dst_node_id = FIRST_NODE_ID
    with pytest.raises(ValueError, match="fresh"):
        grid.push_messages([reply])


def test_a_hundred_thousand_sites_need_the_memory_of_one_batch() -> None:
    app = ClientApp()
    payload = RecordDict({"x": ConfigRecord({"bytes": bytes(10_000)})})

    @app.train()
    def train(message: Message, context: Context) -> Message:
        content = RecordDict({"x": ConfigRecord({"bytes": bytes(10_000)})})
        return Message(content, reply_to=message)

    tracemalloc.start()
    try:
        grid = grid_of(app, 100_000)
        messages: Iterator[Message] = (
            Message(payload, node, "train") for node in grid.get_node_ids()[:3000]
        )
        count = sum(1 for _ in grid.send_and_receive(messages))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 3000
    assert peak < 2_000_000  # the replies together are 30 MB


class Sleeper(OneByOne):
    """Trains nothing, takes its time, and keeps which sites came together."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        super().__init__(SITE_BY_SITE)
        self.clock, self.seconds = clock, seconds
        self.batches: list[list[str]] = []

    def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
        self.batches.append([job.site for job in jobs])
        self.clock.now += self.seconds
        return [{} for _ in jobs]


def gathered(
    sleeper: Sleeper, nodes: int, batch: int, payload: bytes = b""
) -> tuple[InProcessGrid, list[int]]:
    """A grid whose sites ask to be trained, and the partitions that went on after it."""
    gathering, charged = GatheringTrainer(sleeper), []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        gathering.update(job_of(str(partition)))
        charged.append(partition)
        content = RecordDict({"x": ConfigRecord({"bytes": payload + bytes(1)})})
        return Message(content, reply_to=message)

    grid = InProcessGrid(app, nodes, 77, {}, sleeper.clock, batch=batch, gathering=gathering)
    return grid, charged


def test_at_most_a_batch_of_sites_is_at_work_together() -> None:
    sleeper = Sleeper(Clock())
    grid, charged = gathered(sleeper, 5, 2)
    replies = list(grid.send_and_receive(ask(grid)))
    assert [reply.metadata.src_node_id - FIRST_NODE_ID for reply in replies] == [0, 1, 2, 3, 4]
    assert sleeper.batches == [["0", "1"], ["2", "3"], ["4"]]
    assert charged == [0, 1, 2, 3, 4]
    keys = grid.push_messages(ask(grid))
    assert len(grid.pull_messages(keys)) == 5
    assert sleeper.batches[3:] == [["0", "1"], ["2", "3"], ["4"]]


def test_messages_are_taken_a_batch_at_a_time() -> None:
    taken = []

    def messages() -> Iterator[Message]:
        for message in ask(grid):
            taken.append(message.metadata.dst_node_id - FIRST_NODE_ID)
            yield message

    grid, _ = gathered(Sleeper(Clock()), 6, 2)
    replies = grid.send_and_receive(messages())
    next(replies)
    assert taken == [0, 1]
    assert len(list(replies)) == 5


def test_two_messages_to_one_site_are_never_at_work_together() -> None:
    # The site holds a lock on its own folder while it waits: the second would wait for ever.
    sleeper = Sleeper(Clock())
    grid, _ = gathered(sleeper, 3, 64)
    first, second, _ = ask(grid)
    again = ask(grid)[0]
    assert len(list(grid.send_and_receive([first, second, again]))) == 3
    assert sleeper.batches == [["0", "1"], ["0"]]


def test_a_deadline_within_a_batch_drops_it_and_asks_nobody_else() -> None:
    sleeper = Sleeper(Clock(), seconds=6.0)
    grid, charged = gathered(sleeper, 6, 2)
    assert len(list(grid.send_and_receive(ask(grid), timeout=10.0))) == 2
    assert sleeper.batches == [["0", "1"], ["2", "3"]]
    assert charged == [0, 1, 2]  # the first late reply ends it: nobody is charged after it


def test_batches_are_ended_where_nobody_takes_their_replies() -> None:
    sleeper = Sleeper(Clock())
    grid, charged = gathered(sleeper, 4, 4)
    replies = grid.send_and_receive(ask(grid))
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    assert sleeper.batches == [["0", "1", "2", "3"]]
    assert charged == [0]
    assert len(list(grid.send_and_receive(ask(grid)))) == 4


def test_sites_that_train_together_need_the_memory_of_one_batch() -> None:
    sleeper = Sleeper(Clock())
    grid, _ = gathered(sleeper, 100_000, 16, payload=bytes(10_000))
    messages = (Message(RecordDict(), node, "train") for node in grid.get_node_ids()[:2000])
    tracemalloc.start()
    try:
        count = sum(1 for _ in grid.send_and_receive(messages))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2000
    assert peak < 2_000_000  # the replies together are 20 MB
