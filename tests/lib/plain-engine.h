/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The library's thread engine, but it reads on the calling thread.  What a test
 * judges lies in memory, where a thread to wait for each read would take most of
 * the test's time: tmpfs does not say whether a read would wait.
 */
#ifndef PLAIN_ENGINE_H
#define PLAIN_ENGINE_H

#include "qed.h"

struct qed_engine;

/* An engine for one image or job.  Aborts if there can be none. */
struct qed_engine *plain_engine(void);

/* Opens an image with one; the options' `io` is not used. */
int plain_open(const char *path, const struct qed_open_options *options,
	       struct qed_image **image);

#endif
