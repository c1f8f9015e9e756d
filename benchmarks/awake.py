"""Keeps the server's core from sleeping: a process that spins, but only when nothing else wants to run.

A core that sleeps between two requests makes a fast server look erratic: on a virtual machine each waking costs an exit
to the hypervisor, and what piled up meanwhile is then handled in one go, at a fraction of the cost. How much of
this happens depends on what else the machine does. Awake, nginx's cost per request repeats within a few percent.
"""

import os


def spin() -> None:
    """Spin until the process that started this one is gone."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


if __name__ == "__main__":
    spin()
