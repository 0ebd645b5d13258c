"""The process of one subject: ``python -m benchmarks.engine.subject_process TASK RESULT``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.process_environment import quiet_third_parties

NOT_AVAILABLE = "not_available"


def main() -> None:
    """Measures, and writes the measurement or why there is none."""
    from benchmarks.engine.measurement import NotAvailable, Task
    from benchmarks.engine.subjects import SUBJECTS

    quiet_third_parties()
    task = Task.read(Path(sys.argv[1]))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    answer: dict[str, Any]
    try:
        answer = asdict(SUBJECTS[task.subject].measure(task))
    except NotAvailable as reason:
        answer = {NOT_AVAILABLE: str(reason)}
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
