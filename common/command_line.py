"""What ends a command: one clear line on stderr and an exit code, for every command line.

Whatever a user can cause ends as one line and exit code 2; Ctrl-C ends with exit code 130;
anything else is a fault of ours and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import logging
import os
import pwd
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from common.atomic_files import DISK_ERRORS, os_error_line
from common.errors import ConfigError, FedrecError

EXIT_INTERRUPTED = 130


def run_command_line(app: Callable[[], object]) -> None:
    """Run `app` and map what goes wrong to one line and an exit code."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    except FedrecError as error:
        _tell(str(error), type(error).__name__)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        what = f"cannot use {error.filename}" if error.filename else "cannot write"
        _tell(os_error_line(what, error), type(error).__name__)
        sys.exit(FedrecError.exit_code)


def _tell(line: str, kind: str) -> None:
    if os.environ.get("FEDREC_LOG") != "json":
        print(f"error: {line}", file=sys.stderr)
        return
    from common.logs import configure_log, is_configured  # only here: a command wants none of it

    if not is_configured():
        configure_log()
    logging.getLogger("fedrec").error("%s", line, extra={"error": kind})


def owners_only(folder: Path) -> Path:
    """`folder`, unless root is about to work in a folder of a service's own user.

    What root writes there (a key, a table, a database's journal), the service cannot read.

    Raises:
        ConfigError: this is root, and the folder is another user's.
    """
    try:
        owner = folder.stat().st_uid
    except OSError:
        return folder  # the command says what is wrong with it
    if os.geteuid() == 0 and owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise ConfigError(
            [
                f"{folder} is user {name}'s, who could not read what root writes there; "
                f"run this as that user: sudo -u {name} …"
            ]
        )
    return folder


def stderr_console() -> Console:
    """Where people are told of progress; stdout is for results."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere: whoever read the pipe has gone."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
