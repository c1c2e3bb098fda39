/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stack of images: layer 0 is the top, each next one its backing file.  Any
 * depth up to QED_SOURCE_MAX, loops refused by device and inode.
 */
#ifndef QED_CHAIN_H
#define QED_CHAIN_H

#include "hints.h"
#include "layer.h"

struct qed_chain {
	struct qed_layer **layers;
	unsigned n;
	struct qed_engine *engine;
	struct qed_counters *counters;
	struct qed_l2cache *cache;
	struct qed_log log;
	char *backing_path;		/* the top's, resolved, or null */
	struct qed_hints hints;		/* of what is below the top */
};

/*
 * The caller has set chain->engine and ->counters, which stay its own; the rest
 * is zero.  qed_chain_open_top() opens and locks the top image, and loads its
 * L1 table unless it is writable (its open may have to repair it first);
 * qed_chain_open_rest() does it for all that is below.  0, or -errno after one
 * error message; on failure too the chain is to be closed.
 */
int qed_chain_open_top(struct qed_chain *chain, const char *path,
		       const struct qed_open_options *options);
int qed_chain_open_rest(struct qed_chain *chain,
			const struct qed_open_options *options);
void qed_chain_close(struct qed_chain *chain);

/*
 * Closes, and so unlocks, all but the first `n` files: what these do not have
 * is zeroes then.  Nothing has been asked of the chain yet.
 */
void qed_chain_cut(struct qed_chain *chain, unsigned n);

/*
 * Where the backing name `name`, stored in the image at `path`, points: to be
 * freed.  -ENOMEM, or -EINVAL if it is no plain file name (a protocol's URI,
 * QEMU's json: form).
 */
int qed_backing_resolve(const char *path, const char *name, char **resolved);

#endif
