# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs that are compared: each makes a disk out of an image.

A server's disk is there when start() returns.  stop() ends it as its users do;
kill() ends it whatever state it is in.  Neither leaves anything behind.
"""

import os
import select
import shutil
import signal
import subprocess
import time

from command import FAILURES, run, say, unmount

PATIENCE = 300                  # seconds until a server counts as hung
TICKS = os.sysconf("SC_CLK_TCK")


def wait_end(pid, patience=PATIENCE):
    """Whether the process has ended, all of its threads, in so many seconds;
    it need not be a child."""
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([end], [], [], patience)[0])
    finally:
        os.close(end)


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
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            poll = select.poll()
            poll.register(table, select.POLLPRI)
            poll.register(end, select.POLLIN)
            deadline = time.monotonic() + PATIENCE
            while mount_at(path) is None:
                left = deadline - time.monotonic()
                events = poll.poll(max(left, 0) * 1000)
                if not events or (end, select.POLLIN) in events:
                    raise RuntimeError(f"nothing was mounted on {path}")
    finally:
        os.close(end)


def abort_connection(number):
    """Fails all requests of a mount whose server does not answer."""
    control = f"/sys/fs/fuse/connections/{number}/abort"
    if os.path.exists(control):
        with open(control, "w", encoding="ascii") as file:
            file.write("1")


def process_usage(pid):
    """CPU seconds of all threads there ever were, and the most memory ever
    resident, in KiB."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        memory = sum(int(line.split()[1]) for line in file
                     if line.startswith("VmHWM:"))
    if fields[0] == "Z":
        raise RuntimeError(f"process {pid} has ended by itself")
    return (int(fields[11]) + int(fields[12])) / TICKS, memory


class Server:
    """One program.  `format` is that of the images it serves."""

    name = None
    format = "raw"
    direct = True               # its disk is opened with O_DIRECT where asked
    in_directory = False        # its mountpoint is not the disk itself
    needs = ()

    def __init__(self, tools, directory):
        self.tools = tools
        self.place = os.path.join(directory, f"disk-{self.name}")
        self.log = os.path.join(directory, f"log-{self.name}")
        self.child = None
        self.connection = None      # the number of its mount
        self.running = False
        self.aborted = False

    def start(self, image):
        """The path of the disk."""
        self.aborted = False
        if self.in_directory:
            os.makedirs(self.place, exist_ok=True)
        else:
            with open(self.place, "ab"):
                pass
        self.running = True
        return self.launch(image)

    def launch(self, image):
        """Makes the disk, on self.place or in it."""
        raise NotImplementedError

    def spawn(self, *command):
        """Starts the program; returns when its mount is there.  Like others
        (command.py) it does not get the terminal's signals."""
        self.connection = None
        with open(self.log, "wb") as log:
            # It lives longer than this function.
            # pylint: disable-next=consider-using-with
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log,
                                          process_group=0)
        wait_mount(self.place, self.child.pid)
        self.connection = mount_at(self.place)

    def processes(self):
        """The pids of all that counts as the server."""
        return [self.child.pid] if self.child else []

    def usage(self):
        """Of all processes: CPU seconds up to now, and KiB of peak memory.
        Fails if one of them is there no longer."""
        usages = [process_usage(pid) for pid in self.processes()]
        return sum(cpu for cpu, _ in usages), sum(kib for _, kib in usages)

    def condition(self):
        """After a failure, for people: what became of it, what it said."""
        words = []
        if self.aborted:
            words.append(f"{self.name} did not answer")
        elif self.child and self.child.poll() is not None:
            words.append(f"{self.name} ended with status "
                         f"{self.child.returncode}")
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                words += file.read()[-500:].split("\n")
        except FileNotFoundError:
            pass
        return "; ".join(word.strip() for word in words if word.strip())

    def stop(self):
        """Orderly.  Fails if it does not end, or says that it failed."""
        if not self.running:
            return
        pids = self.processes()
        self.shut_down()
        for pid in pids:
            if not wait_end(pid):
                raise RuntimeError(f"{self.name} did not end")
        self.running = False
        if self.child:
            status = self.child.wait()
            self.child = None
            if status != 0:
                raise RuntimeError(f"at its end: status {status}")

    def shut_down(self):
        """Tells it to end."""
        unmount(self.place, PATIENCE, self.abort)

    def abort(self):
        """Nobody waits for an answer any longer.  A server that ends can have
        taken its mount away and still have requests to answer, even to itself;
        as long as it is there the number means its connection."""
        self.aborted = True
        if mount_at(self.place) is not None or \
                not all(wait_end(pid, 0) for pid in self.processes()):
            abort_connection(self.connection)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def kill(self):
        """Whatever it takes, for a server that has failed or whose image is
        not needed any more."""
        if not self.running:
            return
        self.running = False
        pids = self.processes()
        self.abort()
        for pid in pids:
            if not wait_end(pid):
                say(f"{self.name}: process {pid} cannot be killed")
        if self.child and self.child.poll() is not None:
            self.child = None
        while mount_at(self.place) is not None:
            run("umount", "-l", self.place)


class Floor(Server):
    """The yardstick."""
    name = "floor"
    in_directory = True

    def launch(self, image):
        self.spawn(self.tools["floor"], "-w", image, self.place)
        return os.path.join(self.place, "disk")


class Raw(Server):
    """No server: the file itself, through the page cache."""
    name = "raw"
    direct = False

    def launch(self, image):
        return image

    def shut_down(self):
        pass


class Loop(Server):
    """A loop device; what it costs is threads of the kernel."""
    name = "loop"
    needs = ("losetup",)

    device = None

    def launch(self, image):
        self.device = run("losetup", "--find", "--show", image).strip()
        return self.device

    def shut_down(self):
        if self.device:
            run("losetup", "--detach", self.device)
            self.device = None

    def kill(self):
        try:
            self.stop()
        except FAILURES as error:
            say(f"{self.name}: {error}")


class Qedfs(Server):
    """In the foreground, as the others: a daemon in a session of its own can
    get another share of the processors (the kernel's autogroups)."""
    name = "qedfs"
    format = "qed"
    in_directory = True

    options = ()                # more arguments

    def launch(self, image):
        self.spawn(self.tools["qedfs"], "-f", *self.options, image, self.place)
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
    """The same images as qedfs."""
    name = "qsd-qed"
    format = "qed"


class StorageDaemonQcow2(StorageDaemon):
    """The format that QEMU cares for."""
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


def missing(needs):
    """Those of the programs that are not installed."""
    return [tool for tool in needs if not shutil.which(tool)]


def attempt(server, what, measure):
    """What measure() returns, and None; or None and why it failed.  Then the
    server is gone, and the next can be measured."""
    try:
        return measure(), None
    except FAILURES as error:
        reason = " ".join(f"{error}; {server.condition()}".split())
        server.kill()
        say(f"FAILED: {what} on {server.name}: {reason}")
        return None, reason
