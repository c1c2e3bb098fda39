/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An open image: a chain whose top is ready for requests.
 *
 * Locks, in order; take only downwards.  All but the first two are leaves
 * to each other, and no callback or waiter runs under any of them.
 *	meta->lock		the dirty state and who waits for commits
 *	reclaim->lock		clusters on their way to be free
 *	layer->tables_lock	the set of L2 tables
 *	claims->lock		clusters and tables being allocated
 *	cache->lock		slices
 *	alloc->lock		free clusters
 *	spares->lock		memory of requests that are over
 *	the engine's lock	its queue
 */
#ifndef QED_IMAGE_H
#define QED_IMAGE_H

#include "chain.h"
#include "cluster.h"
#include "inflight.h"
#include "meta.h"
#include "spare.h"

struct qed_ticker;

/*
 * qed_image_open() with an engine of the caller's, which the image owns from
 * then on (also on failure): how tests plug theirs in.
 */
int qed_image_open_engine(const char *path,
			  const struct qed_open_options *options,
			  struct qed_engine *engine, struct qed_image **image);

/*
 * The two halves of it, for a job that looks at the top image, or changes it,
 * before it is ready for requests.  After the first only image->chain.layers[0]
 * is open, and locked; the second opens what is below, and takes image->size
 * from the layer's.  0, or -errno after one message; when the second fails the
 * image is still to be discarded.
 */
int qed_image_begin(const char *path, const struct qed_open_options *options,
		    struct qed_engine *engine, struct qed_image **image);
int qed_image_finish(struct qed_image *image,
		     const struct qed_open_options *options);

/*
 * For a job that makes the top image's file grow, after the first half or with
 * nothing dirty: as qed_check_sound(), but one that carries NEED_CHECK is passed,
 * since the second half checks and repairs it.
 */
int qed_image_require_sound(struct qed_image *image, const struct qed_job *job);

/* Frees the handle, its engine and locks, and writes nothing any more. */
void qed_image_discard(struct qed_image *image);

struct qed_image {
	struct qed_chain chain;
	struct qed_layer *top;		/* chain.layers[0] */
	struct qed_log log;
	bool writable;
	uint64_t size;			/* bytes of virtual disk */
	struct qed_counters counters;
	struct qed_spares spares;	/* memory of requests */
	_Atomic unsigned failed_layer;	/* that could not be read, last: for
					 * messages */

	/* a writable image's */
	struct qed_alloc alloc;
	struct qed_reclaim reclaim;
	struct qed_meta *meta;
	bool detect_zeroes;		/* constant */
	_Atomic bool flushes;		/* somebody asks for that */
	_Atomic uint64_t unflushed;	/* bytes of large writes since */
	bool zero_entries;		/* constant once requests run: what is
					 * zeroed gets zero clusters, as another
					 * backing file will be below */
	bool sparse;			/* constant once requests run: clusters
					 * that are preallocated get a place,
					 * but no space on the host */
	struct qed_claims clusters;	/* being allocated, by cluster number */
	struct qed_claims tables;	/* being allocated, by L1 index */
	struct qed_ticker *ticker;	/* or null: commits at flushes only */
};

#endif
