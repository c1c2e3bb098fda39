/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening a chain.  A backing file's format is never guessed: NO_PROBE (or the
 * caller) says raw, otherwise the file must carry the QED magic.  A guest could
 * have written any other magic into a raw disk, to make us open files of its
 * choice.
 */
#include "config.h"

#include "chain.h"
#include "lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Letters before a colon, and no slash before it: a protocol, not a file. */
static bool has_protocol(const char *name)
{
	size_t n = strcspn(name, "/:");

	return n > 0 && name[n] == ':';
}

int qed_backing_resolve(const char *path, const char *name, char **resolved)
{
	const char *slash = strrchr(path, '/');
	int dir = slash ? (int)(slash - path) + 1 : 0;

	*resolved = NULL;
	if (!strncmp(name, "file:", 5))
		name += 5;
	else if (has_protocol(name))
		return -EINVAL;
	if (*name == '\0')
		return -EINVAL;
	if (*name == '/')
		dir = 0;
	if (asprintf(resolved, "%.*s%s", dir, path, name) < 0)
		return -ENOMEM;
	return 0;
}

static int refuse_loop(const struct qed_chain *chain,
		       const struct qed_file *file)
{
	for (unsigned i = 0; i < chain->n; i++) {
		const struct qed_file *other = chain->layers[i]->source.file;

		if (other->dev != file->dev || other->ino != file->ino)
			continue;
		qed_log_write(&chain->log, QED_LOG_ERROR,
			      "%s: the backing chain contains itself: this is "
			      "%s again; point one of them elsewhere",
			      file->path, other->path);
		return -ELOOP;
	}
	return 0;
}

static int refuse_depth(const struct qed_chain *chain, const char *path)
{
	if (chain->n <= QED_SOURCE_MAX)
		return 0;
	qed_log_write(&chain->log, QED_LOG_ERROR,
		      "%s: the backing chain is deeper than %u images", path,
		      QED_SOURCE_MAX + 1);
	return -ELOOP;
}

/* Opens one file and puts it at the end of the chain.  Owns nothing else. */
static int add_layer(struct qed_chain *chain, struct qed_file *file, bool raw)
{
	struct qed_layer **layers;
	int ret;

	layers = realloc(chain->layers, (chain->n + 1) * sizeof(*layers));
	if (!layers) {
		qed_file_close(file);
		return -ENOMEM;
	}
	chain->layers = layers;
	ret = qed_layer_create(file, chain->n, raw, chain->cache,
			       &layers[chain->n]);
	if (ret == 0)
		layers[chain->n++]->counters = chain->counters;
	return ret;
}

static int open_file(struct qed_chain *chain, const char *path, bool writable,
		     uint32_t flags, struct qed_file **file)
{
	int ret = refuse_depth(chain, path);

	*file = NULL;
	if (ret == 0)
		ret = qed_file_open(path, writable, chain->engine, &chain->log,
				    file);
	if (ret == 0)
		ret = refuse_loop(chain, *file);
	if (ret == 0 && !(flags & QED_OPEN_FORCE_SHARE))
		ret = qed_lock_take((*file)->fd, writable, path, &chain->log);
	if (ret < 0) {
		qed_file_close(*file);
		*file = NULL;
	}
	return ret;
}

static int open_top(struct qed_chain *chain, const char *path,
		    const struct qed_open_options *options)
{
	bool writable = options->flags & QED_OPEN_RDWR;
	bool raw = options->flags & QED_OPEN_RAW;
	struct qed_file *file;
	int ret = open_file(chain, path, writable, options->flags, &file);

	if (ret == 0)
		ret = add_layer(chain, file, raw);
	if (ret == 0 && !writable && !raw)
		ret = qed_layer_load_l1(chain->layers[0]);
	/* For whoever asks; a name that is no file's is refused when used. */
	if (ret == 0 && chain->layers[0]->backing_name)
		(void)qed_backing_resolve(path, chain->layers[0]->backing_name,
					  &chain->backing_path);
	return ret;
}

/* What the last layer says of the file behind it. */
struct backing {
	const char *name;		/* null: there is none */
	const char *from;		/* the path that it is relative to */
	bool raw;
};

static struct backing backing_of(const struct qed_chain *chain,
				 const struct qed_open_options *options)
{
	struct qed_layer *last = chain->layers[chain->n - 1];
	bool top = chain->n == 1;
	struct backing b = { .name = NULL };

	if (last->raw)
		return b;
	b.name = last->backing_name;
	b.from = last->source.file->path;
	b.raw = b.name && (last->header.features &
			   QED_FEATURE_BACKING_FORMAT_NO_PROBE);
	if (top && options->backing) {
		b.name = options->backing;
		b.from = "";
	}
	if (top && options->backing_format)
		b.raw = !strcmp(options->backing_format, "raw");
	return b;
}

static int require_magic(struct qed_file *file)
{
	int ret = qed_layer_probe(file);

	if (ret > 0)
		return 0;
	if (ret < 0) {
		qed_log_write(&file->log, QED_LOG_ERROR, "%s: cannot read: %s",
			      file->path, strerror(-ret));
		return ret;
	}
	qed_log_write(&file->log, QED_LOG_ERROR,
		      "%s: backing file is not a QED image and the image does "
		      "not say that it is raw; if it is, use "
		      "-o backing_format=raw",
		      file->path);
	return -EMEDIUMTYPE;
}

static int open_backing(struct qed_chain *chain, const struct backing *backing,
			const struct qed_open_options *options)
{
	struct qed_file *file;
	char *path;
	int ret = qed_backing_resolve(backing->from, backing->name, &path);

	if (ret < 0) {
		qed_log_write(&chain->log, QED_LOG_ERROR,
			      "%s: backing file name \"%s\" is not a plain "
			      "file name; use -o backing=PATH",
			      chain->layers[chain->n - 1]->source.file->path,
			      backing->name);
		return ret;
	}
	ret = open_file(chain, path, false, options->flags, &file);
	free(path);
	if (ret < 0)
		return ret;
	if (!backing->raw)
		ret = require_magic(file);
	if (ret < 0) {
		qed_file_close(file);
		return ret;
	}
	ret = add_layer(chain, file, backing->raw);
	if (ret == 0 && !backing->raw)
		ret = qed_layer_load_l1(chain->layers[chain->n - 1]);
	return ret;
}

/* With one image below the top there is nothing to gain. */
static void make_hints(struct qed_chain *chain)
{
	unsigned shift = 0;

	for (unsigned i = 0; i < chain->n; i++) {
		const struct qed_layer *layer = chain->layers[i];

		if (!layer->raw && (!shift || layer->header.cluster_bits < shift))
			shift = layer->header.cluster_bits;
	}
	if (chain->n > 2)
		qed_hints_init(&chain->hints, shift);
}

int qed_chain_open_top(struct qed_chain *chain, const char *path,
		       const struct qed_open_options *options)
{
	int ret;

	chain->log = options->log;
	ret = qed_l2cache_create(options->l2_cache, &chain->cache);
	if (ret < 0) {
		qed_log_write(&chain->log, QED_LOG_ERROR,
			      "%s: cannot make the L2 cache: %s", path,
			      strerror(-ret));
		return ret;
	}
	return open_top(chain, path, options);
}

int qed_chain_open_rest(struct qed_chain *chain,
			const struct qed_open_options *options)
{
	struct backing backing;
	int ret = 0;

	if (options->flags & QED_OPEN_NO_BACKING)
		return 0;
	while (ret == 0) {
		backing = backing_of(chain, options);
		if (!backing.name) {
			make_hints(chain);
			return 0;
		}
		ret = open_backing(chain, &backing, options);
	}
	return ret;
}

void qed_chain_cut(struct qed_chain *chain, unsigned n)
{
	while (chain->n > n)
		qed_layer_destroy(chain->layers[--chain->n]);
}

void qed_chain_close(struct qed_chain *chain)
{
	qed_chain_cut(chain, 0);
	free(chain->layers);
	free(chain->backing_path);
	qed_hints_fini(&chain->hints);
	qed_l2cache_destroy(chain->cache);
	memset(chain, 0, sizeof(*chain));
}
