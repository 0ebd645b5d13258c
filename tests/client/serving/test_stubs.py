"""The committed stubs are those of the .proto file."""

from __future__ import annotations

from client.serving.stubs import ROOT, generated


def test_stubs_are_current() -> None:
    for path, content in generated().items():
        assert (ROOT / path).read_text(encoding="utf-8") == content, (
            "run python -m client.serving.stubs --write"
        )
