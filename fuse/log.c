/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "log.h"
#include "lowlevel.h"

#include <fuse_log.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* Longer than any path twice with some words between. */
#define MESSAGE_MAX 9000

static _Atomic bool verbose;
static _Atomic bool to_syslog;

static pthread_mutex_t capture_lock = PTHREAD_MUTEX_INITIALIZER;
static bool capturing;			/* under capture_lock */
static char captured[512];		/* under capture_lock */

void qedfs_log_verbose(void)
{
	verbose = true;
}

void qedfs_log_to_syslog(void)
{
	openlog("qedfs", LOG_PID, LOG_DAEMON);
	to_syslog = true;
}

/* File names are the user's: nothing in them may end or fake a line. */
static void make_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static void emit(enum qed_log_level level, char *text)
{
	static const int priorities[] = {
		[QED_LOG_ERROR] = LOG_ERR,
		[QED_LOG_WARNING] = LOG_WARNING,
		[QED_LOG_INFO] = LOG_INFO,
		[QED_LOG_DEBUG] = LOG_DEBUG,
	};

	make_one_line(text);
	if (to_syslog)
		syslog(priorities[level], "%s", text);
	else
		fprintf(stderr, "qedfs: %s\n", text);
}

static bool wanted(enum qed_log_level level)
{
	return level <= QED_LOG_WARNING || verbose;
}

void qedfs_log(enum qed_log_level level, const char *format, ...)
{
	char text[MESSAGE_MAX];
	va_list args;

	if (!wanted(level))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	emit(level, text);
}

void qedfs_log_asked(const char *format, ...)
{
	char text[MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	emit(QED_LOG_INFO, text);
}

void qedfs_log_qed(void *opaque, enum qed_log_level level, const char *message)
{
	(void)opaque;
	qedfs_log(level, "%s", message);
}

static enum qed_log_level from_libfuse(enum fuse_log_level level)
{
	if (level <= FUSE_LOG_ERR)
		return QED_LOG_ERROR;
	if (level == FUSE_LOG_WARNING)
		return QED_LOG_WARNING;
	return level == FUSE_LOG_DEBUG ? QED_LOG_DEBUG : QED_LOG_INFO;
}

/* True if the message was kept rather than to be shown. */
static bool capture(const char *text)
{
	bool kept;

	pthread_mutex_lock(&capture_lock);
	kept = capturing;
	if (kept && !captured[0])
		snprintf(captured, sizeof(captured), "%.500s", text);
	pthread_mutex_unlock(&capture_lock);
	return kept;
}

static void libfuse_message(enum fuse_log_level level, const char *format,
			    va_list args)
{
	char text[MESSAGE_MAX];
	const char *start = text;
	size_t len;

	vsnprintf(text, sizeof(text), format, args);
	len = strlen(text);
	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = '\0';
	if (strncmp(text, "fuse: ", 6) == 0)
		start += 6;
	if (!capture(start))
		qedfs_log(from_libfuse(level), "%s", start);
}

void qedfs_log_adopt_libfuse(void)
{
	fuse_set_log_func(libfuse_message);
}

void qedfs_log_capture(void)
{
	pthread_mutex_lock(&capture_lock);
	capturing = true;
	captured[0] = '\0';
	pthread_mutex_unlock(&capture_lock);
}

void qedfs_log_release(char *text, size_t len)
{
	pthread_mutex_lock(&capture_lock);
	capturing = false;
	snprintf(text, len, "%s", captured);
	pthread_mutex_unlock(&capture_lock);
}
