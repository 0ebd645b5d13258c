"""The tables of docs/small.md from docs/small/*.jsonl: ``python -m benchmarks.small_page``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.atomic_files import read_json_lines, write_text

PAGE = Path("docs/small.md")
RECORDS = Path("docs/small")


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, table in (("student", student_table), ("million", million_table)):
        lines = read_json_lines(RECORDS / f"{name}.jsonl")
        if lines:
            page = renewed(page, name, table(lines))
    write_text(PAGE, page)


def renewed(page: str, name: str, table: list[str]) -> str:
    start, end = f"<!-- >>> {name} -->\n", f"<!-- <<< {name} -->"
    before, rest = page.split(start)
    _, after = rest.split(end)
    return before + start + "\n".join(table) + "\n" + end + after


def student_table(lines: list[dict[str, Any]]) -> list[str]:
    head = (
        "| item texts by | validation: NDCG@10, lost % | test: NDCG@10, lost % | cosine to the "
        "teacher: seen, unseen titles | titles/s ÷ teacher's | one title | MB: all, layers, "
        "layers gzipped |"
    )
    return [head, "|---" * 7 + "|", *map(_student_row, lines)]


def _student_row(line: dict[str, Any]) -> str:
    def figure(stage: str) -> str:
        lost, low, high = line[stage]["lost_percent"]
        return f"{line[stage]['ndcg_10']:.4f}, {lost:+.1f} [{low:+.1f}, {high:+.1f}]"

    cosine = line["cosine"]
    sizes = f"{line['size_mb']}, {line['layers_mb']}, {line['layers_gzip_mb']}"
    cells = [
        line["way"],
        figure("validation"),
        figure("test"),
        f"{cosine['seen']:.3f}, {cosine['unseen']:.3f}",
        f"{line['ratio']:.2f}",
        f"{line['single_ms']:.1f} ms",
        sizes,
    ]
    return f"| {' | '.join(cells)} |"


def million_table(lines: list[dict[str, Any]]) -> list[str]:
    about, *ways = lines
    told = (
        f"{about['items']:,} items; rows in fp32 {about['rows_mb']:,} MB, the index of candidates "
        f"{about['file_mb']} MB; built in {about['build_s']} s, read again in {about['load_s']} s; "
        f"peak memory of the process {about['peak_mb']:,} MB.\n"
    )
    head = "| way | requests | p50 ms | p99 ms | most ms | recall@10 |"
    rows = [
        f"| {way['way']} | {way['requests']} | {way['p50_ms']} | {way['p99_ms']} | "
        f"{way['max_ms']} | {_recall(way)} |"
        for way in ways
    ]
    return [told, head, "|---" * 6 + "|", *rows]


def _recall(way: dict[str, Any]) -> str:
    return f"{way['recall_10']:.3f} ({way['recall_users']} users)" if "recall_10" in way else ""


if __name__ == "__main__":
    main()
