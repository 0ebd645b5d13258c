"""One run of a search, in a process of its own: ``python -m simulations.search.run_process``.

It is a run of a sweep (`simulations.sweeps.run_process`), and after it the validation part is
ranked for.
"""

from __future__ import annotations

import sys

from common.config import RunConfig
from common.progress import ProgressListener
from common.run_folder import RunFolder
from simulations.sweeps.run_process import main


def validated(config: RunConfig, folder: RunFolder, listener: ProgressListener) -> None:
    """Keep the validation figures of a run; what they need is imported after the start."""
    from simulations.search.validation import keep_validation

    keep_validation(config, folder, listener)


if __name__ == "__main__":
    sys.exit(main(validated))
