/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a virtual disk may hold, byte by byte, given who wrote what when and which
 * flushes succeeded.
 *
 * Moments are numbers of any clock that never stands still.  A write that ended
 * well before a flush began, which succeeded, is there after the flush's end
 * whatever happens, unless a later write covers it.  A write that was begun may
 * be there or not, byte by byte, until it is overtaken like that.  Nothing else
 * may ever be seen: not zeroes either, unless the disk was zero or was zeroed.
 *
 * Each write has contents that no other has, nor any other place of the disk;
 * they hold no zero byte.  Not thread-safe.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct model;

enum model_kind {
	MODEL_WRITE,
	MODEL_ZERO,			/* zeroing or discarding */
};

/* A disk of `size` bytes (whole sectors) that holds `base`. */
struct model *model_create(uint64_t size, const uint8_t *base);
void model_destroy(struct model *model);

/* Contents for the bytes [off, off + len) of whoever has the number `id`. */
void model_pattern(uint64_t id, uint8_t *buf, uint64_t off, uint64_t len);

/* A request begins; its number.  And it ends. */
unsigned model_begin(struct model *model, enum model_kind kind, uint64_t off,
		     uint64_t len, uint64_t now);
void model_end(struct model *model, unsigned op, uint64_t now, bool ok);
/* What it writes. */
void model_fill(const struct model *model, unsigned op, uint8_t *buf);

/* A flush that began and ended then succeeded. */
void model_flushed(struct model *model, uint64_t began, uint64_t ended);

/* When the last flush began that had succeeded before `cut`, or 0. */
uint64_t model_durable(const struct model *model, uint64_t cut);

/*
 * Could the disk hold `content` in [off, off + len) at the moment `cut`, if what
 * ended well before `durable` cannot be undone?  If not, says in `message` what
 * is wrong with the first sector that is.
 */
bool model_allows(const struct model *model, const uint8_t *content,
		  uint64_t off, uint64_t len, uint64_t durable, uint64_t cut,
		  char message[512]);

#endif
