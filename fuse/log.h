/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages: to stderr until the daemon has detached, to syslog afterwards.
 * Every function may be called from any thread.
 */
#ifndef QEDFS_LOG_H
#define QEDFS_LOG_H

#include "qed.h"

#include <stddef.h>

/* Shows informational and debugging messages too; off at first. */
void qedfs_log_verbose(void);

/* From now on messages go to syslog(3), facility daemon. */
void qedfs_log_to_syslog(void);

/* Writes one line, which starts with the program's name on stderr. */
void qedfs_log(enum qed_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The same for information that somebody has asked for: always shown. */
void qedfs_log_asked(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* The library's messages, for struct qed_log; `opaque` is not used. */
void qedfs_log_qed(void *opaque, enum qed_log_level level,
		   const char *message);

/*
 * Sends libfuse's messages here too.  Between the two calls below they are not
 * shown but kept: qedfs_log_release() stops that and copies the first one,
 * without libfuse's own prefix, to `text` (empty if there was none).  To be
 * used by one thread at a time.
 */
void qedfs_log_adopt_libfuse(void);
void qedfs_log_capture(void);
void qedfs_log_release(char *text, size_t len);

#endif
