/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mount seen from outside: where it is attached, and whether what is found
 * there is (still) ours.  The daemon acts by path on its own mount only through
 * these functions: another file system may have been mounted over it, or it may
 * be gone and the path mean the file or directory underneath, even the image.
 */
#ifndef QEDFS_PLACE_H
#define QEDFS_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct qedfs_place {
	const char *mountpoint;		/* absolute; the caller's */
	const char *name;		/* of the file in the mounted directory,
					 * null if the file is the root */
	bool known;			/* dev is valid */
	dev_t dev;			/* of the mounted file system */
};

/* Learns the device of what is mounted there now: 0 or -errno.  Asks nothing
 * of the daemon, so it may be called before any request is served. */
int qedfs_place_learn(struct qedfs_place *place);

/* Waits until the mount answers: 0 or -errno.  Requests must be served. */
int qedfs_place_ping(const struct qedfs_place *place);

/* Opens the virtual disk through the mount, as open(2) with `flags`: a
 * descriptor, or -ENODEV if the mount is not at its place, or -errno. */
int qedfs_place_open(const struct qedfs_place *place, int flags);

/*
 * Has the kernel read ahead so many bytes in the mount's file: 0, or -errno
 * (-EACCES where only root may).
 */
int qedfs_place_set_readahead(const struct qedfs_place *place, uint64_t bytes);

/* Truncates the virtual disk through the mount: 0 or -errno as above. */
int qedfs_place_truncate(const struct qedfs_place *place, uint64_t size);

/* Takes the mount off its place, whoever uses it.  True if it was there. */
bool qedfs_place_detach(const struct qedfs_place *place);

#endif
