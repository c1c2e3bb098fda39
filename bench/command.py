# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other programs, run until they have ended."""

import os
import signal
import subprocess
import sys
import time

# What can go wrong with one of them, and concerns one measurement alone.
FAILURES = (OSError, RuntimeError, ValueError, KeyError)


def say(text):
    """To the user, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def _shown(command):
    text = " ".join(command)
    return text if len(text) <= 80 else text[:77] + "..."


def run(*command, patience=300, stuck=None, cwd=None, statuses=(0,)):
    """What a command printed, which has to succeed within `patience` seconds:
    with one of the statuses.
    If it does not end, stuck() has to free it from whatever it waits for: a
    process that waits for a server's answer cannot be killed.

    Ctrl-C is for us alone, so it has its own process group; but no session, as
    those can get shares of the processors of their own (kernel's autogroups).
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          cwd=cwd, process_group=0) as process:
        try:
            output, errors = process.communicate(timeout=patience)
        except BaseException as error:
            if stuck:
                stuck()
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise RuntimeError(f"{_shown(command)}: not done after "
                                   f"{patience:.0f} s") from error
            raise
    if process.returncode not in statuses:
        text = (errors.strip() or output.strip())[-300:]
        raise RuntimeError(f"{_shown(command)}: status "
                           f"{process.returncode}: {text}")
    return output


def unmount(place, patience=300, stuck=None):
    """umount(8), again while somebody has something open there: whoever looks at
    all mounts or devices does so for a moment."""
    deadline = time.monotonic() + patience
    while True:
        try:
            run("umount", place, patience=patience, stuck=stuck)
            return
        except RuntimeError as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
