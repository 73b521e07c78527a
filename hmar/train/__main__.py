"""``python -m hmar.train --model hmar --snapshot DIR --out DIR ...``: see ``--help``.

In N processes, on N GPUs: ``--processes N``, or ``torchrun --nproc-per-node N -m hmar.train ...``, which knows several
machines too; everything else is the same.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from hmar.errors import HmarError
from hmar.streams import outlive_readers
from hmar.threads import sleep_while_waiting
from hmar.train.cost import counted
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit code (:mod:`hmar.errors`). An error is one line on stderr, its traceback in train.log."""
    stop = StopSignal()
    stop.install()
    sleep_while_waiting()
    outlive_readers()
    try:
        settings = parse(arguments)
        from hmar.train.processes import together
        from hmar.train.session import follow, train

        with together(settings.processes, arguments) as ranks, ranks.joined():
            if ranks.first:
                with counted(settings.out):
                    train(settings, stop, ranks)
            else:
                follow(settings, stop, ranks)
    except HmarError as error:
        return _failed(error)
    except Exception as error:
        if stop.requested:  # what the signal raised was caught by a library, which raised an error of its own
            return _failed(stop.interrupted())
        reason = " ".join(str(error).split())
        print(f"error: unexpected {type(error).__name__}: {reason}; train.log has the traceback", file=sys.stderr)
        return HmarError.exit_code
    return 0


def _failed(error: HmarError) -> int:
    rank = os.environ.get("RANK", "0")
    who = "" if rank == "0" else f"process {rank}: "  # the error of a training is the one that its first process prints
    print(f"{who}error: {'; '.join(str(error).splitlines())}", file=sys.stderr)
    return error.exit_code


def parse(arguments: Sequence[str]) -> TrainSettings:
    """Flags over environment over ``--settings FILE`` over the preset.

    Raises:
        SettingsError: an unknown flag or key, a bad value, an unreadable file.
    """
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--settings")
    known, rest = files.parse_known_args(arguments)
    return TrainSettings.resolve(arguments=rest, yaml_file=known.settings, program="python -m hmar.train")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
