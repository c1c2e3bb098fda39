# SPDX-License-Identifier: LGPL-2.1-or-later
"""The images that are measured, each as raw, QED and qcow2.

full            every cluster holds data
cold            the same, in a file of its own: one that has been dropped from the
                page cache comes back otherwise
chain-1, 3, 16  the same disk as so many layers of one format: each MiB is in
                one of them, in turn; a raw file can have no layers
fresh           an empty disk, made anew for each measurement
cow             an empty image, made anew, over one that holds a quarter of the
                disk, over a raw file with data everywhere
"""

import os
import shutil

from command import run

MIB = 1 << 20
GIB = 1 << 30
CLUSTER = 65536


def random_file(path, size):
    """Bytes that neither compress nor look like holes."""
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def copy_pieces(source, path, size, pieces):
    """A file of this size with these MiB of the source, and holes."""
    with open(source, "rb") as data, open(path, "wb") as file:
        file.truncate(size)
        for piece in pieces:
            data.seek(piece * MIB)
            file.seek(piece * MIB)
            file.write(data.read(MIB))


def rewrite_by_pages(path):
    """So that the page cache has it in single pages, whoever wrote it, and in
    whatever pieces: a small write into a large folio of ext4 costs several
    times as much (Linux 6.18)."""
    copy = path + ".pages"
    run("dd", "bs=4k", "conv=sparse", "status=none", f"if={path}",
        f"of={copy}")
    os.truncate(copy, os.path.getsize(path))
    os.replace(copy, path)


class Datasets:
    """Makes images in a directory, when they are first asked for."""

    FRESH_SIZE = 64 * GIB
    # How much of the directory all of them take, in units of the size.
    SPACE = 16

    def __init__(self, directory, size):
        self.directory = directory
        self.size = size            # bytes of data in all but "fresh"
        self.makers = {"full": self._full, "cold": self._cold,
                       "fresh": self._fresh, "cow": self._cow,
                       "chain-1": lambda form: self._chain(1, form),
                       "chain-3": lambda form: self._chain(3, form),
                       "chain-16": lambda form: self._chain(16, form)}

    def get(self, kind, image_format):
        """The files of such an image, the one to open first; none if the
        format has no such image."""
        return self.makers[kind](image_format)

    def disk_size(self, kind):
        """Bytes, as the user of the disk sees it."""
        return self.FRESH_SIZE if kind == "fresh" else self.size

    @staticmethod
    def once(kind):
        """Whether the image is of no use after its first measurement."""
        return kind in ("fresh", "cow")

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _kept(self, name, make):
        """The path of a file that is made if it is not there: by make(PATH),
        and elsewhere first, so that half a file is never taken for one."""
        path = self._path(name)
        if not os.path.exists(path):
            make(path + ".part")
            rewrite_by_pages(path + ".part")
            os.rename(path + ".part", path)
        return path

    def _full(self, image_format):
        def make(path):
            if image_format == "raw":
                random_file(path, self.size)
            else:
                run("qemu-img", "convert", "-f", "raw", "-O", image_format,
                    self._full("raw")[0], path)
        return [self._kept(f"full.{image_format}", make)]

    def _cold(self, image_format):
        full, = self._full(image_format)
        return [self._kept(f"cold.{image_format}",
                           lambda path: shutil.copyfile(full, path))]

    def _fresh(self, image_format):
        path = self._path(f"fresh.{image_format}")
        run("qemu-img", "create", "-q", "-f", image_format, path,
            str(self.FRESH_SIZE))
        return [path]

    def _layer(self, name, image_format, pieces, below=None):
        """An image with these MiB of the disk, over another one."""
        def make(path):
            part = self._path("pieces.raw")
            copy_pieces(self._full("raw")[0], part, self.size, pieces)
            run("qemu-img", "convert", "-f", "raw", "-O", image_format, part,
                path)
            os.unlink(part)
            if below:
                # The reference alone; nothing is compared or copied.
                run("qemu-img", "rebase", "-u", "-f", image_format, "-b",
                    below, "-F", below.rpartition(".")[2], path)
        return self._kept(f"{name}.{image_format}", make)

    def _chain(self, depth, image_format):
        if image_format == "raw":
            return []
        if depth == 1:
            return self._full(image_format)
        layers = []
        for number in range(depth):
            pieces = range(number, self.size // MIB, depth)
            below = layers[0] if layers else None
            layers.insert(0, self._layer(f"chain-{depth}-{number}",
                                         image_format, pieces, below))
        return layers

    def _cow(self, image_format):
        if image_format == "raw":
            return []
        raw = self._full("raw")[0]
        middle = self._layer("middle", image_format,
                             range(0, self.size // MIB, 4), raw)
        top = self._path(f"top.{image_format}")
        run("qemu-img", "create", "-q", "-f", image_format, "-b", middle,
            "-F", image_format, top)
        return [top, middle, raw]
