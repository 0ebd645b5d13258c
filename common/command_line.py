"""What ends a command: one clear line on stderr and an exit code, for every command line.

Whatever a user can cause ends as one line and exit code 2; Ctrl-C ends with exit code 130;
anything else is a fault of ours and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console

from common.atomic_files import DISK_ERRORS, os_error_line
from common.errors import FedrecError

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
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        what = f"cannot use {error.filename}" if error.filename else "cannot write"
        print(f"error: {os_error_line(what, error)}", file=sys.stderr)
        sys.exit(FedrecError.exit_code)


def stderr_console() -> Console:
    """Where people are told of progress; stdout is for results."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere: whoever read the pipe has gone."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
