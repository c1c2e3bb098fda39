# SPDX-License-Identifier: LGPL-2.1-or-later
"""The images that are measured, each as raw, QED and qcow2.

full    every cluster holds data
fresh   an empty disk, made anew for each measurement
chain   an empty image over one that holds a quarter of the disk, over a
        raw file with data everywhere; the two below are made once
deep    the data of "full", spread over 16 layers
"""

import os
import subprocess

MIB = 1 << 20
GIB = 1 << 30
CLUSTER = 65536
LAYERS = 16


def run(*command):
    """A command that has to succeed, and is shown if it does not."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


def random_file(path, size):
    """Bytes that neither compress nor look like holes."""
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


class Datasets:
    """Makes images in a directory, when they are first asked for."""

    FRESH_SIZE = 64 * GIB

    def __init__(self, directory, size):
        self.directory = directory
        self.size = size            # bytes of data in "full" and "chain"
        self.makers = {"full": self._full, "fresh": self._fresh,
                       "chain": self._chain, "deep": self._deep}

    def get(self, kind, image_format):
        """The path of such an image; None if the format has none."""
        return self.makers[kind](image_format)

    def disk_size(self, kind):
        return self.FRESH_SIZE if kind == "fresh" else self.size

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _full(self, image_format):
        path = self._path(f"full.{image_format}")
        if os.path.exists(path):
            return path
        if image_format == "raw":
            random_file(path, self.size)
        else:
            run("qemu-img", "convert", "-f", "raw", "-O", image_format,
                self._full("raw"), path)
        return path

    def _fresh(self, image_format):
        path = self._path(f"fresh.{image_format}")
        if os.path.exists(path):
            os.unlink(path)
        run("qemu-img", "create", "-q", "-f", image_format, path,
            str(self.FRESH_SIZE))
        return path

    def _overlay(self, path, image_format, below, below_format):
        if os.path.exists(path):
            os.unlink(path)
        run("qemu-img", "create", "-q", "-f", image_format, "-b", below,
            "-F", below_format, path)
        return path

    def _copy_range(self, path, image_format, offset, size):
        """QEMU writes this part of the raw disk into an image."""
        part = f"offset={offset},size={size}"
        run("qemu-img", "convert", "-n", "--image-opts",
            f"driver=raw,{part},file.driver=file,"
            f"file.filename={self._full('raw')}", "--target-image-opts",
            f"driver=raw,{part},file.driver={image_format},"
            f"file.file.driver=file,file.file.filename={path}")

    def _chain(self, image_format):
        if image_format == "raw":
            return None
        middle = self._path(f"middle.{image_format}")
        if not os.path.exists(middle):
            self._overlay(middle, image_format, self._full("raw"), "raw")
            quarter = self.size // 64
            for part in range(0, 64, 4):
                self._copy_range(middle, image_format, part * quarter,
                                 quarter)
        return self._overlay(self._path(f"top.{image_format}"), image_format,
                             middle, image_format)

    def _deep(self, image_format):
        if image_format == "raw":
            return None
        below, below_format = self._full("raw"), "raw"
        piece = self.size // 64
        for layer in range(1, LAYERS):
            path = self._path(f"layer-{layer}.{image_format}")
            if not os.path.exists(path):
                self._overlay(path, image_format, below, below_format)
                for part in range(layer, 64, LAYERS):
                    self._copy_range(path, image_format, part * piece, piece)
            below, below_format = path, image_format
        return path
