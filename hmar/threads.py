"""How many threads this process computes with: torch's, Arrow's and OpenMP's, set here and nowhere else.

training                  threads of its settings, :func:`hmar.train.engine.set_up`
evaluation                threads of its settings, :func:`hmar.evaluate.run.evaluate`
recommending              train.threads of the pipeline, :mod:`pipeline.stages.recommend`
other pipeline stages     engine.threads of the pipeline, for DuckDB (a setting of each of its connections) and for
                          Arrow: :mod:`pipeline.storage.engine`
a model served by MLflow  the server's own: its process is not ours; it obeys OMP_NUM_THREADS
"""

import os
from collections.abc import MutableMapping

SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Variables for a process that will import torch. By default OpenMP's waiting threads spin: with one process more than
there are cores, the spinning of each takes the time of the others' work, and training is several times slower."""


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads sleep. Call it before torch is imported, which reads this once; what is set already, stays."""
    for name, value in SLEEPING.items():
        environment.setdefault(name, value)


def limit_threads(threads: int) -> None:
    """Compute with so many threads from now on, torch's products and Arrow's reading of files; 0 leaves it at what
    torch was started with, OMP_NUM_THREADS or the cores of this process."""
    import torch

    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    limit_arrow(threads)


def limit_arrow(threads: int) -> None:
    """Arrow's threads alone, where torch need not be imported."""
    import pyarrow as pa

    pa.set_cpu_count(threads)


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
