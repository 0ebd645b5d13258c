from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.config_loading import load_config
from common.errors import RunFolderError
from common.run_folder import RunFolder, new_run_name
from common.tensor_files import tensors_to_bytes


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "runs" / "demo")
    made.write_config(load_config(overrides=["data.sites=4"]))
    return made


def test_a_run_name_tells_scenario_and_time_and_is_fresh() -> None:
    names = {new_run_name("my scenario/é") for _ in range(20)}
    assert len(names) > 1
    assert all(re.fullmatch(r"my-scenario-\d{8}T\d{6}Z-[0-9a-f]{4}", name) for name in names)


def test_config_is_read_back_and_the_run_is_found(folder: RunFolder) -> None:
    assert RunFolder.open(folder.path).read_config() == load_config(overrides=["data.sites=4"])
    assert "schema_version = 1" in (folder.path / "config.toml").read_text(encoding="utf-8")


def test_a_folder_in_use_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not empty; choose another name with --run"):
        RunFolder.create(folder.path)
    with pytest.raises(RunFolderError, match="no checkpoint to resume from: no site was asked"):
        RunFolder.create(folder.path, resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"is not a run: it has no config\.toml"):
        RunFolder.create(other, resume=True)


def test_a_run_with_a_checkpoint_is_resumed(folder: RunFolder) -> None:
    folder.write_checkpoint({}, {"server_round": 3})
    resumed = RunFolder.create(folder.path, resume=True)
    assert resumed.read_checkpoint()[1] == {"server_round": 3}


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path).path == tmp_path


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(RunFolderError, match=r"cannot make the run folder .*; check the path"):
        RunFolder.create(tmp_path / "runs" / "demo")


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no such folder; check the name"):
        RunFolder.open(tmp_path / "nope")


def test_an_unused_folder_is_discarded_and_a_used_one_kept(folder: RunFolder) -> None:
    folder.append_round({"server_round": 1})
    folder.discard_if_unused()
    assert folder.path.exists()
    (folder.path / "rounds.jsonl").unlink()
    folder.discard_if_unused()
    assert not folder.path.exists()


def test_rounds_and_releases_are_read_back_with_their_version(folder: RunFolder) -> None:
    folder.append_round({"server_round": 1})
    folder.append_round({"server_round": 2})
    folder.append_releases([{"site": "site-0000"}, {"site": "site-0001"}])
    folder.append_release({"site": "site-0002"})
    assert [r["server_round"] for r in folder.read_rounds()] == [1, 2]
    releases = folder.read_releases()
    assert [r["site"] for r in releases] == ["site-0000", "site-0001", "site-0002"]
    assert {r["schema_version"] for r in releases} == {1}


def test_json_files_ledgers_and_texts(folder: RunFolder) -> None:
    folder.write_json("metrics.json", {"hr_10": 0.5})
    folder.write_ledger("site-0001", {"entries": []})
    folder.write_ledger("site-0000", {"entries": [1]})
    folder.write_text("PRIVACY.md", "ε")
    assert folder.read_json("metrics.json") == {"schema_version": 1, "hr_10": 0.5}
    assert list(folder.read_ledgers()) == ["site-0000", "site-0001"]
    assert (folder.path / "ledgers" / "site-0000.json").is_file()
    assert (folder.path / "PRIVACY.md").read_text(encoding="utf-8") == "ε"


@pytest.mark.parametrize("name", ["../up.json", "a/b.json", "", ".hidden", "/root.json"])
def test_a_name_cannot_leave_the_folder(folder: RunFolder, name: str) -> None:
    with pytest.raises(RunFolderError, match="cannot name a file in a run"):
        folder.write_json(name, {})
    with pytest.raises(RunFolderError, match="cannot name a file in a run"):
        folder.write_ledger("../site", {})


def test_another_version_is_refused(folder: RunFolder) -> None:
    path = folder.path / "metrics.json"
    path.write_text('{"schema_version": 2}', encoding="utf-8")
    with pytest.raises(RunFolderError, match="has schema_version 2, expected 1"):
        folder.read_json("metrics.json")
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(RunFolderError, match="has schema_version None"):
        folder.read_json("metrics.json")
    (folder.path / "rounds.jsonl").write_text('{"server_round": 1}\n', encoding="utf-8")
    with pytest.raises(RunFolderError, match="has schema_version None"):
        folder.read_rounds()


@given(
    tensors=st.dictionaries(
        st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=20).filter(
            lambda name: name != "__metadata__"
        ),
        hnp.arrays(
            dtype=st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
            shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=4,
    ),
    state=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
)
def test_checkpoint_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, np.ndarray],  # type: ignore[type-arg]
    state: dict[str, object],
) -> None:
    folder = RunFolder.create(tmp_path_factory.mktemp("run"))
    folder.write_checkpoint(tensors, state)
    read, read_state = folder.read_checkpoint()
    assert read_state == state
    assert set(read) == set(tensors)
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


def test_adapter_round_trip_of_arrays_in_any_memory_order(folder: RunFolder) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    adapter = {"lora_B": matrix.T, "head": matrix[:, ::2], "scale": np.array(2.0, np.float32)}
    folder.write_adapter(adapter, {"weights": "all-MiniLM-L6-v2"})
    read, metadata = folder.read_adapter()
    assert metadata == {"weights": "all-MiniLM-L6-v2"}
    assert set(read) == set(adapter)
    for name, array in adapter.items():
        np.testing.assert_array_equal(read[name], array)
    description = json.loads((folder.path / "adapter" / "adapter.json").read_text("utf-8"))
    assert description["tensors"]["lora_B"] == {"shape": [3, 2], "dtype": "float32"}
    assert description["schema_version"] == 1


def test_a_damaged_adapter_is_named(folder: RunFolder) -> None:
    folder.write_adapter({"a": np.zeros(3, np.float32)}, {})
    path = folder.path / "adapter" / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunFolderError, match=r"adapter\.safetensors is damaged"):
        folder.read_adapter()
    path.unlink()
    with pytest.raises(RunFolderError, match=r"cannot read .*adapter\.safetensors"):
        folder.read_adapter()


def test_a_flipped_bit_of_a_checkpoint_is_damage_and_an_older_one_has_no_digest(
    folder: RunFolder,
) -> None:
    folder.write_checkpoint({"a": np.arange(3.0)}, {"server_round": 3})
    content = folder.checkpoint_file.read_bytes()
    folder.checkpoint_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunFolderError, match="is damaged; restore it from a backup"):
        folder.read_checkpoint()
    older = tensors_to_bytes({}, {"schema_version": "1", "state": "{}"})
    folder.checkpoint_file.write_bytes(older)
    assert folder.read_checkpoint() == ({}, {})
