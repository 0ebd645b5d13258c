"""``fedrec-site distil``: a small encoder for the texts of new items, made at the site."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import Annotated

import typer

from client.site_option import AsJson, Site
from common.command_line import stderr_console


def distil(
    site: Site,
    epochs: Annotated[int, typer.Option(min=1, max=100, help="Most passes over all texts.")] = 6,
    made_texts: Annotated[
        int,
        typer.Option(min=0, max=1_000_000, help="Texts made up beside the catalogue's."),
    ] = 6000,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the adapter's own encoder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a two-layer student of the current adapter's item tower, for the texts of new items.

    It learns from public texts and the adapter alone, so it costs no ε. It is kept in
    SITE/serving and used for `--new-items` by `recommend`, and by `serve` from its next start.
    Cut short, it goes on where it was.
    """
    from client.serving.feedback import SERVING_FOLDER
    from client.serving.served import WhatToServe
    from client.serving.site_student import STUDENT_FILE, make_student
    from common.atomic_files import file_errors

    folder = site / SERVING_FOLDER
    path = folder / STUDENT_FILE
    if reset:
        with file_errors("remove", path):
            path.unlink(missing_ok=True)
        print("the adapter's own encoder")
        return
    from rich.progress import Progress

    work = folder / "student-work"
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(console=stderr_console(), transient=True))
        task = bar.add_task("reading the adapter", total=None)

        def listen(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of)

        card, size, teacher_size = make_student(
            WhatToServe(site), path, work, epochs=epochs, made_texts=made_texts, listen=listen
        )
    shutil.rmtree(work, ignore_errors=True)
    if as_json:
        print(json.dumps(card.model_dump() | {"bytes": size, "teacher_bytes": teacher_size}))
        return
    print(f"student of adapter {card.adapter_sha256[:12]}: {size / 1e6:.1f} MB", end="")
    print(f", the adapter's own encoder {teacher_size / 1e6:.1f} MB")
    print(f"cosine to the adapter's vectors on {card.held_out} texts held out: {card.cosine:.3f}")
    print(f"kept: {path}")
