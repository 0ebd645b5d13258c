"""The stubs of ``serving.proto``: generated with grpcio-tools, committed, held to be current.

``python -m client.serving.stubs --write`` renews them.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

PROTO = Path("client/serving/serving.proto")
STUBS = (Path("client/serving/serving_pb2.py"), Path("client/serving/serving_pb2.pyi"))
ROOT = Path(__file__).resolve().parents[2]


def generated() -> dict[Path, str]:
    """What the stubs must be, by their path in the repository."""
    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as out:
        code = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT}",
                f"--proto_path={well_known}",
                f"--python_out={out}",
                f"--pyi_out={out}",
                str(ROOT / PROTO),
            ]
        )
        if code != 0:
            raise SystemExit(f"error: {PROTO} does not compile; see above")
        return {path: (Path(out) / path).read_text(encoding="utf-8") for path in STUBS}


def main() -> None:
    """Writes the stubs, or says which are stale and ends with exit code 2."""
    stale = [
        (path, content)
        for path, content in generated().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != content
    ]
    if "--write" in sys.argv[1:]:
        for path, content in stale:
            (ROOT / path).write_text(content, encoding="utf-8")
    elif stale:
        names = ", ".join(str(path) for path, _ in stale)
        print(f"error: {names}: stale; run python -m client.serving.stubs --write", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
