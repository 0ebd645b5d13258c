"""Memory does not grow with the data: measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.site_sources import FIRST, ORDERS, csv_site

MEASURE = """
import resource, sys
from pathlib import Path
from client.source.refresh import refresh_site
refreshed = refresh_site(Path(sys.argv[1]))
print(refreshed.written.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
ALLOWED_MB = 50
"""Between the small and the large data; the large file alone is more."""


def peak(folder: Path, rows: int) -> tuple[int, int]:
    """Rows written, and the most MiB that the refresh ever had."""
    with (folder / ORDERS).open("w") as file:
        file.write("customer,sku,at,stars,note\n")
        for n in range(rows):
            user, item = n // 15, n % 15
            file.write(
                f"canary-user-{user}@example.org,g{item},{FIRST + n},{n % 5 + 1},{'x' * 250}\n"
            )
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True
    )
    written, mebibytes = map(int, done.stdout.split())
    return written, mebibytes


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    folder = csv_site(tmp_path)
    _, small = peak(folder, 3_000)
    written, large = peak(folder, 300_000)
    size = (folder / ORDERS).stat().st_size >> 20
    assert written == 300_000
    assert size > ALLOWED_MB + 20
    print(f"peak {small} MiB with 3,000 rows, {large} MiB with 300,000 ({size} MiB of CSV)")
    assert large - small < ALLOWED_MB, (small, large, size)
