"""The site's student: made from public texts, used for new items, refused where damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from client import cli
from client.serving.feedback import SERVING_FOLDER
from client.serving.served import Served, WhatToServe
from client.serving.site_student import STUDENT_FILE, student_of
from common.base_weights import load_tokenizer, resolve_base_weights
from common.errors import ExportError
from common.student.encoding import TextEncoder
from common.student.shrinking import merged_bert, small_copy
from common.student.student_file import StudentCard, read_student, write_student
from tests.client.serving.conftest import CONFIG, DATASET, install
from tests.own_process import in_own_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

NEW = ("A quiet storm (1999). Genres: Drama", "Blue metal (1988). Genres: Action")


@pytest.fixture
def what(site: Path, tmp_path: Path) -> WhatToServe:
    path = tmp_path / "new.parquet"
    pq.write_table(pa.table({"item_id": ["n0", "n1"], "text": list(NEW)}), path)
    return WhatToServe(site, path)


def untrained(what: WhatToServe) -> tuple[TextEncoder, str]:
    sha256, recommender, _ = what.tower()
    tokenizer = load_tokenizer(resolve_base_weights(recommender.config.weights))
    bert = small_copy(merged_bert(recommender), (0, 5), 64)
    return TextEncoder(bert, tokenizer, recommender.config.max_tokens), sha256


def keep(what: WhatToServe, encoder: TextEncoder, sha256: str) -> Path:
    folder = what.site / SERVING_FOLDER
    folder.mkdir(exist_ok=True)
    card = StudentCard(adapter_sha256=sha256, texts=1, held_out=1, cosine=0.5, seed=0)
    write_student(folder / STUDENT_FILE, encoder, card)
    return folder / STUDENT_FILE


def scores(served: Served) -> np.ndarray:
    asker = served.asker(next(iter(served.histories.users)))
    assert asker is not None
    return served.index.scores(asker.at(0))


def test_new_items_and_they_alone_are_scored_by_the_student(what: WhatToServe) -> None:
    before = scores(what.load())
    encoder, sha256 = untrained(what)
    path = keep(what, encoder, sha256)
    again, card = read_student(path, encoder.tokenizer, encoder.max_tokens)
    torch.testing.assert_close(again.vectors(NEW), encoder.vectors(NEW))
    assert "costs no ε" in card.statement
    after = scores(what.load())
    assert after[:-2] == pytest.approx(before[:-2], abs=1e-5)
    assert np.abs(after[-2:] - before[-2:]).max() > 1e-3
    figures = WhatToServe(what.site, what.new_items, as_of="test").load()
    path.unlink()
    assert scores(what.load()) == pytest.approx(before, abs=1e-5)
    plain = WhatToServe(what.site, what.new_items, as_of="test").load()
    assert scores(figures) == pytest.approx(scores(plain), abs=1e-5)  # figures are the adapter's


def test_another_adapters_student_is_left_out(
    what: WhatToServe, exports: list[tuple[Path, str]], caplog: pytest.LogCaptureFixture
) -> None:
    encoder, sha256 = untrained(what)
    path = keep(what, encoder, sha256)
    install(exports[1], what.site, DATASET, CONFIG)
    before = scores(what.load())
    assert "another adapter" in caplog.text
    path.unlink()
    assert scores(what.load()) == pytest.approx(before, abs=1e-5)


def test_a_damaged_one_is_refused_in_one_line(
    what: WhatToServe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, sha256 = untrained(what)
    path = keep(what, encoder, sha256)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ExportError, match="is damaged; make it anew"):
        student_of(path, sha256, CONFIG.model)
    path.write_bytes(b"no tensors")
    assert what.new_items is not None
    fedrec_site = in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    code, _, err = fedrec_site(
        "recommend", "--site", what.site, "--new-user", "--new-items", what.new_items
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "fedrec-site distil" in err


def test_a_folder_that_is_no_site_gets_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fedrec_site = in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    for command in ("distil", "blend"):
        code, _, err = fedrec_site(command, "--site", tmp_path)
        assert code == 2
        assert "site.json: no such file" in err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_makes_one_that_is_near_its_teacher(
    what: WhatToServe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fedrec_site = in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    asked = ("distil", "--site", what.site, "--epochs", "3", "--made-texts", "300", "--json")
    code, out, err = fedrec_site(*asked)
    assert code == 0, err
    made = json.loads(out)
    assert made["bytes"] < made["teacher_bytes"]
    assert made["held_out"] == 8
    encoder, sha256 = untrained(what)
    assert made["adapter_sha256"] == sha256
    path = what.site / SERVING_FOLDER / STUDENT_FILE
    assert sorted(each.name for each in path.parent.iterdir()) == [STUDENT_FILE]
    student = student_of(path, sha256, CONFIG.model)
    assert student is not None
    _, recommender, texts = what.tower()
    teacher = recommender.item_tower.table()
    near = torch.nn.functional.cosine_similarity(student.vectors(texts), teacher).mean()
    raw = torch.nn.functional.cosine_similarity(encoder.vectors(texts), teacher).mean()
    assert near > raw
    assert fedrec_site("distil", "--site", what.site, "--reset")[0] == 0
    assert not path.exists()
