# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists of requests for fio to replay, where no rule of its own gives them."""

import random

PAGE = 4096
FILE = "disk"                   # fio is told what file to take instead


def _write(path, lines):
    with open(path, "w", encoding="ascii") as file:
        file.write(f"fio version 2 iolog\n{FILE} add\n{FILE} open\n")
        file.writelines(lines)
        file.write(f"{FILE} close\n")


def _scattered(rng, nclusters, cluster_size, count, fsync_every):
    pages = cluster_size // PAGE
    clusters = rng.sample(range(nclusters), min(count, nclusters))
    for number, cluster in enumerate(clusters, 1):
        offset = cluster * cluster_size + rng.randrange(pages) * PAGE
        yield f"{FILE} write {offset} {PAGE}\n"
        if fsync_every and number % fsync_every == 0:
            yield f"{FILE} sync 0 0\n"


def scattered_writes(path, seed, disk_size, cluster_size, count,
                     fsync_every=0):
    """One page in each of so many clusters, no cluster twice, in random order,
    with an fsync after every so many."""
    _write(path, _scattered(random.Random(seed), disk_size // cluster_size,
                            cluster_size, count, fsync_every))


def random_reads(path, seed, offsets, count):
    """So many reads of a page at one of the offsets."""
    chosen = random.Random(seed).choices(offsets, k=count)
    _write(path, (f"{FILE} read {offset} {PAGE}\n" for offset in chosen))
