"""`fedrec-site run` as a process: one agent per site and socket, and an orderly end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from flwr.app import RecordDict

from client.resident.relay import relay
from common.config import DataConfig
from common.messages import decode_refusal
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.resident_agents import NO_MODEL, fedrec_site, make_real, resident_agent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (made,) = write_site_folders(
        synthetic_dataset(), DataConfig(dataset="synthetic", sites=1), tmp_path / "sites"
    )
    make_real(made, "max_epsilon = 2.0\n")
    return made


def asked(path: Path, group: str = "3") -> str:
    """The code of the refusal that a message of a type that nobody answers gets."""
    reply = relay(str(path), "query.nothing", group, RecordDict(), {})
    return decode_refusal(reply, server_round=int(group)).code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_what_it_serves_answers_many_and_ends_in_order(
    site: Path, short_folder: Path, number: signal.Signals
) -> None:
    path = short_folder / f"run-{number}" / "a.sock"
    with resident_agent(site, path, *NO_MODEL) as agent:
        said = agent.log.read_text()
        assert (
            f"serving site site-0000 (60 declared units) on {path}: modes distributed, local; "
            in said
        )
        assert "ε spent 0.00 of 2 at δ=0.0001" in said
        assert "relay_users of policy.toml is empty" in said
        codes: list[str] = []
        clients = [
            threading.Thread(target=lambda n=n: codes.append(asked(path, str(n)))) for n in range(6)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert codes == ["MessageError"] * 6
        assert agent.end(number) == 0
        assert f"{number.name}: the agent ends" in agent.log.read_text()
        assert "Traceback" not in agent.log.read_text()
    assert not path.exists()
    assert asked(path) == "SiteAgentError"


def test_a_second_agent_is_one_line_and_a_killed_one_is_replaced(
    site: Path, short_folder: Path, tmp_path: Path
) -> None:
    path = short_folder / "second" / "a.sock"
    (other,) = write_site_folders(
        synthetic_dataset(), DataConfig(dataset="synthetic", sites=1), tmp_path / "other"
    )
    with resident_agent(site, path, *NO_MODEL) as agent:
        for folder, socket in ((site, short_folder / "b" / "b.sock"), (other, path)):
            done = fedrec_site("run", "--site", folder, "--socket", socket, *NO_MODEL)
            assert done.returncode == 2
            (line,) = done.stderr.splitlines()
            assert line.startswith("error: ")
            assert f"is served by another agent (process {agent.process.pid})" in line
        assert asked(path) == "MessageError"
        agent.process.kill()
        agent.process.wait()
    assert path.exists()  # it could not clean up
    with resident_agent(site, path, *NO_MODEL) as agent:
        assert asked(path) == "MessageError"


@pytest.mark.parametrize(
    ("policy", "options", "said"),
    [
        ('relay_users = ["no-such-user"]\n', [], "no-such-user"),
        ("", ["--group", "no-such-group"], "not on this machine"),
    ],
)
def test_what_cannot_be_served_is_told_and_nothing_is_left(
    site: Path, short_folder: Path, policy: str, options: list[str], said: str
) -> None:
    (site / "policy.toml").write_text(policy)
    path = short_folder / "never" / "a.sock"
    done = fedrec_site("run", "--site", site, "--socket", path, *NO_MODEL, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not path.exists()


def test_no_file_is_made_in_what_is_no_site(tmp_path: Path) -> None:
    done = fedrec_site("run", "--site", tmp_path, *NO_MODEL)
    assert done.returncode == 2
    assert "site.json: no such file" in done.stderr
    assert os.listdir(tmp_path) == []


def test_the_hash_of_the_installed_code_can_be_printed(repository: Path) -> None:
    done = fedrec_site("code-hash", "--bundle", repository)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 64
    assert fedrec_site("code-hash").stdout == done.stdout
