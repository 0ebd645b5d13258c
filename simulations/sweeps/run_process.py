"""One run of a sweep, in a process of its own: ``python -m simulations.sweeps.run_process``.

It takes the folder of a run that holds its configuration, and tells on stdout, one JSON
object a line, how it gets on; what else is printed goes to stderr, which is the run's log.
It ends when its stdin closes, because then whoever started it has gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

from common.atomic_files import DISK_ERRORS, os_error_line
from common.command_line import EXIT_INTERRUPTED
from common.errors import FedrecError
from common.process_environment import quiet_third_parties
from simulations.progress import round_findings
from simulations.sweeps.interruption import Interruption
from simulations.tracking import Tracking, asked_tracking, tracked

if TYPE_CHECKING:
    from common.config import RunConfig
    from common.progress import ProgressListener
    from common.run_folder import RunFolder

Afterwards: TypeAlias = "Callable[[RunConfig, RunFolder, ProgressListener], None]"


class EventListener:
    """Hears of a run's progress and writes each event as a line of JSON.

    Whatever it hears, it ends a run that was asked to stop and went on.
    """

    def __init__(self, stream: TextIO, interruption: Interruption) -> None:
        self._stream = stream
        self._interruption = interruption

    def run_started(self, total_rounds: int) -> None:
        """Tell how many rounds there will be."""
        self.tell(rounds=total_rounds)

    def round_started(self, server_round: int) -> None:
        """Tell nothing: the round has its line when it is over."""
        self._interruption.raise_if_asked()

    def site_finished(self, server_round: int, site: str) -> None:
        """Tell nothing: the round has its line when it is over."""
        self._interruption.raise_if_asked()

    def round_finished(self, record: Mapping[str, object]) -> None:
        """Tell that a round is over, and what was found."""
        self.tell(round_finished=True, message=round_findings(record))

    def message(self, text: str) -> None:
        """Tell what the run does now."""
        self.tell(message=text)

    def tell(self, **event: object) -> None:
        """Write one event; where nobody listens any more, the run is about to be stopped."""
        self._interruption.raise_if_asked()
        with suppress(BrokenPipeError):
            print(json.dumps(event), file=self._stream, flush=True)


def main(afterwards: Afterwards | None = None) -> int:
    """Run the run of the folder that is named; 0, 2 for what can be corrected, 130.

    Args:
        afterwards: what is still to be done before the run counts as finished.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--track", default="")
    parser.add_argument("--track-to", default="")
    arguments = parser.parse_args()
    # A shell starts a background command with SIGINT ignored, and its children inherit that.
    interruption = Interruption()
    interruption.listen()
    listener = EventListener(_own_stdout(), interruption)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet_third_parties()
    try:
        tracking = asked_tracking(arguments.track, arguments.track_to)
        _run(arguments.folder, listener, tracking, afterwards)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except FedrecError as error:
        return _fault(listener, str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return _fault(listener, os_error_line("cannot use the disk", error))
    except Exception:  # Python makes a RuntimeError of an interruption within __set_name__
        if not interruption.asked:
            raise
        return EXIT_INTERRUPTED
    return 0


def _run(
    path: Path, listener: EventListener, tracking: Tracking | None, afterwards: Afterwards | None
) -> None:
    from common.run_folder import RunFolder
    from simulations.simulate import simulate
    from simulations.sweeps.runs_folder import OUTCOME_FILE

    folder = RunFolder.open(path)
    config = folder.read_config()
    with tracked(tracking, config, path, listener) as hearing:
        result = simulate(config, folder, hearing)
        hearing.finished(result)
    if afterwards is not None:
        afterwards(config, folder, listener)
    listener.message("finished")
    folder.write_json(
        OUTCOME_FILE,
        {
            "config_sha256": config.sha256(),
            "epsilon": result.epsilon,
            "delta": result.delta,
            "seconds": result.seconds,
        },
    )


def _fault(listener: EventListener, line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    with suppress(KeyboardInterrupt):  # asked to stop or not, it ends with its fault
        listener.tell(fault=line)
    return FedrecError.exit_code


def _own_stdout() -> TextIO:
    """Keep stdout for events, and send what libraries print there to stderr."""
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(kept, "w", encoding="utf-8")


def _end_with_parent() -> None:
    while os.read(0, 4096):  # unbuffered: a buffer's lock would outlive the interpreter
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
