from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import command_line
from common.config_loading import load_config
from common.errors import FedrecError
from common.run_folder import RunFolder
from simulations import cli, scenario_files
from simulations.run_paths import new_run_path
from tests.own_process import Command, in_own_process

REPOSITORY = Path(cli.__file__).resolve().parent.parent

# A federation small enough for a test, on the real model.
TINY = [
    "--set=data.dataset=synthetic",
    "--set=data.sites=2",
    "--set=privacy.mode=local",
    "--set=model.head_items=0",
    "--set=federation.rounds=2",
    "--set=privacy.targets_per_unit=2",
    "--set=privacy.negatives_per_unit=4",
    "--set=evaluation.every=0",
    "--set=evaluation.bootstrap_resamples=100",
    "--set=evaluation.companions=",
    "--set=engine.threads=1",
]


@pytest.fixture
def fedrec(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run the command in this process, in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    return in_own_process(cli.main, "fedrec", monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", "demmo"], "did you mean demo?"),
        (["simulate", "no/such.toml"], "scenario no/such.toml is no file; check its path"),
        (["simulate", "--set", "privacy.target_epsilon=0"], "must be a number above 0, got 0"),
        (["simulate", "--set", "privacy.noise_multiplier=-1"], "above 0 or auto, got -1"),
        (["simulate", "--set", "privacy.epsilon=1"], "did you mean privacy.target_epsilon?"),
        (["simulate", "--set", "data.sites=0"], "data.sites must be"),
        (["simulate", "--set", "engine.device=gpu"], "engine.device must be auto, cpu, cuda or"),
        (["report", "nothing"], "there is no run 'nothing' here or under runs/"),
        (["report", "."], "is not a run: it has no config.toml"),
        (["data", "fetch", "movielens"], "there is no data set 'movielens' to fetch"),
        (["data", "partition", "--out", "s", "--set", "data.dataset=nowhere"], "nowhere"),
    ],
)
def test_a_users_mistake_is_told_without_a_traceback(
    fedrec: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, out, err = fedrec(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_one_line(fedrec: Command, tmp_path: Path) -> None:
    code, out, err = fedrec("simulate", *TINY, "--set=engine.device=cuda:999")
    assert (code, out) == (2, "")
    assert err.startswith("error: engine.device=cuda:999")
    assert len(err.splitlines()) == 1
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_context_that_the_data_lack_is_one_line(fedrec: Command, tmp_path: Path) -> None:
    source = tmp_path / "shop"
    source.mkdir()
    rows = "".join(f"u,{item},{n}\n" for n, item in enumerate("abc"))
    (source / "interactions.csv").write_text("user_id,item_id,timestamp\n" + rows)
    (source / "items.csv").write_text("item_id,text\na,A\nb,B\nc,C\n")
    asked = ["--set=model.context=user", f"--set=data.dataset={source}"]
    code, out, err = fedrec("simulate", *TINY, *asked)
    assert (code, out) == (2, "")
    faults = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(faults) == 1
    assert "model.context=user needs attributes of the users" in faults[0]
    assert "Traceback" not in err


def test_all_faults_are_listed_at_once(fedrec: Command) -> None:
    code, _, err = fedrec("simulate", "--set", "data.sites=0", "--set", "x.y=1", "--set", "z")
    assert code == 2
    assert err.startswith("error: configuration has 3 faults:\n  - ")


@pytest.mark.parametrize(
    "arguments", [["simulate", "--no-such-option"], ["nonsense"], ["data", "partition"]]
)
def test_wrong_usage_is_exit_code_2(fedrec: Command, arguments: list[str]) -> None:
    code, out, err = fedrec(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: fedrec" in err


def test_a_folder_in_use_is_refused_and_stays_as_it_is(fedrec: Command, tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    code, _, err = fedrec("simulate", "--run", "mine")
    assert code == 2
    assert "error: runs/mine is not empty; choose another name with --run" in err
    assert [path.name for path in (tmp_path / "runs" / "mine").iterdir()] == ["thesis.tex"]


def test_a_run_that_never_began_leaves_no_folder(fedrec: Command, tmp_path: Path) -> None:
    code, _, err = fedrec("simulate", "--run", "mine", "--set", "data.dataset=nowhere")
    assert code == 2
    assert "nowhere" in err
    assert not (tmp_path / "runs" / "mine").exists()


def test_help_teaches_with_examples(fedrec: Command) -> None:
    code, out, _ = fedrec("simulate", "--help")
    assert code == 0
    assert "fedrec simulate local --set privacy.target_epsilon=3" in out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, simulations.cli\n"
        "sys.argv = ['fedrec', '--help']\n"
        "try:\n    simulations.cli.main()\n"
        "except SystemExit as leaving:\n    assert not leaving.code\n"
        "heavy = {'torch', 'flwr', 'ray', 'transformers', 'pandas', 'pyarrow', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stderr == "[]\n"
    assert "simulate" in done.stdout


def test_keys_are_a_scenario_that_is_the_default(fedrec: Command, tmp_path: Path) -> None:
    code, out, _ = fedrec("simulate", "--keys")
    assert code == 0
    (tmp_path / "all.toml").write_text(out, encoding="utf-8")
    assert load_config(scenario=tmp_path / "all.toml") == load_config()


def test_the_demo_is_what_flwr_run_runs_by_default() -> None:
    assert load_config(scenario=scenario_files.find_scenario("demo")) == load_config()


def test_every_bundled_scenario_is_listed_and_valid(fedrec: Command) -> None:
    code, out, _ = fedrec("scenarios", "--json")
    assert code == 0
    listed = json.loads(out)
    assert {"demo", "federated", "local"} <= set(listed)
    for name, purpose in listed.items():
        assert purpose
        load_config(scenario=scenario_files.find_scenario(name))
    assert all(name in fedrec("scenarios")[1] for name in listed)


def test_partition_writes_the_sites_that_were_asked_for(fedrec: Command, tmp_path: Path) -> None:
    code, out, _ = fedrec(
        "data", "partition", "--out", "sites", "--set", "data.dataset=synthetic",
        "--set", "data.sites=3",
    )  # fmt: skip
    assert (code, out) == (0, "3 sites in sites\n")
    assert len(list((tmp_path / "sites").glob("site-*/site.json"))) == 3


def test_where_a_new_run_goes(tmp_path: Path) -> None:
    assert new_run_path("mine", "demo") == Path("runs/mine")
    assert new_run_path("./mine", "demo") == Path("mine")
    assert new_run_path(str(tmp_path / "x"), "demo") == tmp_path / "x"
    fresh = new_run_path(None, "demo")
    assert fresh.parent == Path("runs")
    assert fresh.name.startswith("demo-")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (FedrecError("site-0003 is missing; add it"), 2, "error: site-0003 is missing; add it\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "error: cannot write: no space left on device; "
            "free some space on that disk and run again\n",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
    ],
)
def test_what_ends_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    said: str,
) -> None:
    def ending(**_: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "app", ending)
    monkeypatch.setattr(command_line, "silence_stdout", lambda: None)
    try:
        cli.main()
        ended = 0
    except SystemExit as leaving:
        ended = int(str(leaving.code))
    assert ended == code
    assert capfd.readouterr().err == said


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError(errno.EBADF, "bad")])
def test_a_fault_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def ending(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", ending)
    with pytest.raises(type(error)):
        cli.main()


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m simulations.cli simulate --keys | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("[data]")


@pytest.mark.e2e
def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulations.cli", "simulate", "--run", str(tmp_path / "run"),
         "--json", *TINY],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["unit"] == "user"
    assert 0 < result["epsilon"] <= 8
    assert Path(result["report"]).is_file()
    folder = RunFolder.open(tmp_path / "run")
    assert len(folder.read_rounds()) >= 2
    assert len(folder.read_ledgers()) == 2
    assert "round 2 of 2 finished" in done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "simulations.cli", "report", str(tmp_path / "run")],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(tmp_path),
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"report: {tmp_path / 'run' / 'report.html'}\n"


@pytest.mark.e2e
def test_ctrl_c_keeps_everything_so_far(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "simulations.cli", "simulate", "--run", str(run), *TINY,
         "--set=federation.rounds=500"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=environment(tmp_path),
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 240
        while process.poll() is None and len(RunFolder(run).read_rounds()) < 2:
            assert time.monotonic() < deadline, "no second round in time"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert f"stopped; everything so far is in {run}\n" in err
    assert err.rstrip().endswith(f"go on with fedrec simulate --resume --run {run}")
    assert "Traceback" not in err
    folder = RunFolder.open(run)
    assert len(folder.read_rounds()) >= 2
    assert len(folder.read_releases()) >= 2
    assert not list(run.rglob("*.tmp"))


def environment(home: Path) -> dict[str, str]:
    """The environment of a child process, with caches of its own."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "FLWR_HOME": str(home / "flwr"),
        "FEDREC_CACHE": str(home / "cache"),
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_was_killed_is_resumed_and_a_finished_one_is_not(
    fedrec: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    seeded = [*TINY, "--set=privacy.insecure_seeded_noise=true"]
    assert fedrec("simulate", "demo", *seeded, "--run", "whole", "--quiet")[0] == 0
    command = [sys.executable, "-m", "simulations.cli", "simulate", "demo", *seeded]
    process = subprocess.Popen(
        [*command, "--run", str(tmp_path / "runs" / "killed"), "--quiet"],
        cwd=REPOSITORY, env={**os.environ, "FEDREC_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    adapter = tmp_path / "runs" / "killed" / "adapter" / "adapter.safetensors"
    while not adapter.is_file() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    code, out, err = fedrec("simulate", "--resume", "--run", "killed", "--json", "--quiet")
    assert (code, err) == (0, "")
    assert json.loads(out)["run_folder"].endswith("killed")
    found = [RunFolder.open(tmp_path / "runs" / name) for name in ("whole", "killed")]
    one, other = (folder.read_adapter()[0] for folder in found)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    kept = [[line["epsilon_prv"] for line in folder.read_releases()] for folder in found]
    assert kept[0] == kept[1]
    assert list((tmp_path / "cache" / "simulated-sites").iterdir()) == []
    code, _, err = fedrec("simulate", "--resume", "--run", "killed")
    assert code == 2
    assert "has ended" in err
    assert len(err.splitlines()) == 1
    code, _, err = fedrec("simulate", "demo", "--resume", "--run", "killed", "--quiet")
    assert code == 2
