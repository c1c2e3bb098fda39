# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs that are compared: each makes a disk out of an image.

A server's disk is there when start() returns, and stop() leaves nothing behind.
"""

import os
import select
import shutil
import signal
import subprocess
import time

from datasets import run

PATIENCE = 60                   # seconds until a server counts as hung
TICKS = os.sysconf("SC_CLK_TCK")


def wait_end(pid):
    """Whether the process has ended, in time; it need not be a child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], PATIENCE)[0])
    finally:
        os.close(fd)


def mount_at(path):
    """The number of the FUSE connection of a mount right there, or None."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            fields = line.split()
            if fields[4] == path:
                return int(fields[2].split(":")[1])
    return None


def wait_mount(path, pid):
    """Until the mount is there; fails as soon as the process has ended."""
    end = os.pidfd_open(pid)
    with open("/proc/self/mountinfo", "rb") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI)
        poll.register(end, select.POLLIN)
        deadline = time.monotonic() + PATIENCE
        while mount_at(path) is None:
            left = deadline - time.monotonic()
            events = poll.poll(max(left, 0) * 1000)
            if not events or (end, select.POLLIN) in events:
                os.close(end)
                raise RuntimeError(f"nothing was mounted on {path}")
    os.close(end)


def abort_connection(path):
    """Fails all requests of a mount whose server does not answer."""
    number = mount_at(path)
    control = f"/sys/fs/fuse/connections/{number}/abort"
    if number is not None and os.path.exists(control):
        with open(control, "w", encoding="ascii") as file:
            file.write("1")


class Server:
    """One program.  `format` is that of the images it serves."""

    name = None
    format = "raw"
    direct = True               # its disk is opened with O_DIRECT where asked
    mounts = True               # its disk is a FUSE mount
    in_directory = False        # its mountpoint is not the disk itself
    needs = ()

    def __init__(self, tools, directory):
        self.tools = tools
        self.place = os.path.join(directory, f"disk-{self.name}")
        self.log = os.path.join(directory, f"log-{self.name}")
        self.child = None
        self.running = False

    @classmethod
    def missing(cls):
        return [tool for tool in cls.needs if not shutil.which(tool)]

    def start(self, image):
        """The path of the disk."""
        if self.in_directory:
            os.makedirs(self.place, exist_ok=True)
        else:
            open(self.place, "a", encoding="ascii").close()
        self.running = True
        return self.launch(image)

    def launch(self, image):
        """Makes the disk, on self.place or in it."""
        raise NotImplementedError

    def spawn(self, *command):
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)
        wait_mount(self.place, self.child.pid)

    def processes(self):
        return [self.child.pid] if self.child else []

    def usage(self):
        """CPU seconds up to now, and the most memory ever resident, in KiB."""
        seconds, memory = 0.0, 0
        for pid in self.processes():
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / TICKS
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                memory += next((int(line.split()[1]) for line in file
                                if line.startswith("VmHWM")), 0)
        return seconds, memory

    def stop(self):
        if self.running:
            self.running = False
            pids = self.processes()
            self.shut_down()
            for pid in pids:
                if not wait_end(pid):
                    abort_connection(self.place)
                    os.kill(pid, signal.SIGKILL)
                    raise RuntimeError(f"{self.name} did not end")
            if self.child:
                self.child.wait()
                self.child = None

    def shut_down(self):
        if mount_at(self.place) is not None:
            run("umount", self.place)

    def abort(self):
        """Nobody waits for an answer any longer."""
        if self.mounts:
            abort_connection(self.place)

    def abandon(self):
        """After a failure: whatever it takes."""
        try:
            self.stop()
        except (OSError, RuntimeError, ValueError):
            self.abort()
            for pid in self.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            while mount_at(self.place) is not None:
                run("umount", "-l", self.place)


class Floor(Server):
    name = "floor"
    in_directory = True

    def launch(self, image):
        self.spawn(self.tools["floor"], "-w", image, self.place)
        return os.path.join(self.place, "disk")


class Raw(Server):
    """No server: the file itself, through the page cache."""
    name = "raw"
    direct = False
    mounts = False

    def start(self, image):
        return image


class Loop(Server):
    name = "loop"
    mounts = False
    needs = ("losetup",)

    device = None

    def launch(self, image):
        self.device = run("losetup", "--find", "--show", image).strip()
        return self.device

    def shut_down(self):
        if self.device:
            run("losetup", "--detach", self.device)
            self.device = None


class Qedfs(Server):
    """In the foreground, as the others: a daemon in a session of its own can
    get another share of the processors (the kernel's autogroups)."""
    name = "qedfs"
    format = "qed"
    in_directory = True

    def launch(self, image):
        self.spawn(self.tools["qedfs"], "-f", image, self.place)
        name = os.path.basename(image).removesuffix(".qed") + ".raw"
        return os.path.join(self.place, name)


class StorageDaemon(Server):
    """QEMU's own FUSE export.  It has to be told to end before its mount goes:
    when the mount goes first, it spins and fills its log."""
    needs = ("qemu-storage-daemon",)

    def launch(self, image):
        self.spawn("qemu-storage-daemon",
                   "--blockdev", f"file,node-name=file,filename={image}",
                   "--blockdev", f"{self.format},node-name=disk,file=file",
                   "--export", "fuse,id=export,node-name=disk,writable=on,"
                   f"allow-other=off,mountpoint={self.place}")
        return self.place

    def shut_down(self):
        self.child.terminate()


class StorageDaemonQed(StorageDaemon):
    name = "qsd-qed"
    format = "qed"


class StorageDaemonQcow2(StorageDaemon):
    name = "qsd-qcow2"
    format = "qcow2"


class NbdFuse(Server):
    """nbdfuse starts qemu-nbd, which ends with it."""
    name = "nbdfuse"
    format = "qed"
    needs = ("nbdfuse", "qemu-nbd")

    def launch(self, image):
        self.spawn("nbdfuse", self.place, "[", "qemu-nbd", "-f", "qed",
                   image, "]")
        return self.place

    def processes(self):
        if not self.child:
            return []
        pid = self.child.pid
        path = f"/proc/{pid}/task/{pid}/children"
        try:
            with open(path, encoding="ascii") as file:
                return [pid] + [int(child) for child in file.read().split()]
        except FileNotFoundError:
            return [pid]


ALL = (Floor, Raw, Loop, Qedfs, StorageDaemonQed, StorageDaemonQcow2, NbdFuse)
