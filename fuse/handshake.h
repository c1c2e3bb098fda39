/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first request, in which the kernel and libfuse agree on what they can do,
 * with one thing that libfuse before 3.17 cannot ask for.
 *
 * Before every buffered write the kernel looks whether the file has
 * capabilities that the write should take away.  Once a file system serves
 * extended attributes, that is a request to the daemon each time.  With
 * FUSE_HANDLE_KILLPRIV_V2 (Linux 5.11) the kernel leaves the matter to the file
 * system, asks once and remembers.  No file here has capabilities or set-id
 * bits, so there is nothing else to do for it; without it extended attributes
 * would cost more than they are worth, and are not served.
 */
#ifndef QEDFS_HANDSHAKE_H
#define QEDFS_HANDSHAKE_H

#include "lowlevel.h"

#include <stdbool.h>

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define QEDFS_CAP_KILLPRIV_V2 FUSE_CAP_HANDLE_KILLPRIV_V2
#else
#define QEDFS_CAP_KILLPRIV_V2 0u
#endif

/*
 * Serves that request, if libfuse has no name for the flag
 * (QEDFS_CAP_KILLPRIV_V2 is 0): to be called when the session is mounted and
 * all rooms are ready, before others are served.  Sets *granted if the kernel
 * has been given the flag.  If the connection is broken, whoever serves it next
 * will notice.
 */
void qedfs_handshake(struct fuse_session *session, bool *granted);

#endif
