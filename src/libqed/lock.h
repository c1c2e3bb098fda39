/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image locks that QEMU honours: open-file-description locks on single bytes.
 * They live as long as the open file description (across fork too) and are
 * dropped by the last close.
 */
#ifndef QED_LOCK_H
#define QED_LOCK_H

#include "qed.h"

/*
 * Takes QEMU's byte locks on `fd` for reading (`write` false: others may read
 * but not write or resize) or for writing (exclusive of both), then tests for
 * conflicting holders.  `fd` must be open for reading.  Never waits.
 *
 * 0; -EBUSY after one QED_LOG_ERROR message that names `path` and, where /proc
 * shows one, the holder ("qemu-system-x86 (pid 123)"); or -errno of fcntl(2)
 * with a message.  A host file system without such locks (-ENOLCK, -EOPNOTSUPP,
 * -EINVAL, -ENOSYS) is a QED_LOG_WARNING and success.  On failure the locks
 * taken so far are dropped again.
 */
int qed_lock_take(int fd, bool write, const char *path,
		  const struct qed_log *log);

#endif
