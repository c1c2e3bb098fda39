/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine for what tests read again and again. */
#include "config.h"

#include "plain-engine.h"

#include "engine.h"
#include "image.h"

#include <pthread.h>
#include <stdlib.h>

static struct qed_engine_ops ops;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int64_t try_now(struct qed_engine *engine, struct qed_io *io)
{
	return io->op == QED_OP_READ ? qed_engine_attempt(io) :
				       qed_engine_try_now(engine, io);
}

static struct qed_engine *thread_engine(void)
{
	struct qed_engine *engine;

	if (qed_engine_create(QED_IO_THREADS, &engine) < 0)
		abort();
	return engine;
}

static void make_ops(void)
{
	struct qed_engine *engine = thread_engine();

	ops = *engine->ops;
	ops.try_now = try_now;
	qed_engine_destroy(engine);
}

struct qed_engine *plain_engine(void)
{
	struct qed_engine *engine = thread_engine();

	pthread_once(&once, make_ops);
	engine->ops = &ops;
	return engine;
}

int plain_open(const char *path, const struct qed_open_options *options,
	       struct qed_image **image)
{
	return qed_image_open_engine(path, options, plain_engine(), image);
}
