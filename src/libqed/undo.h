/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PATH.check-undo: what tables held before a repair changed them.  A header:
 * magic, then of the image before the repair its file's size, the fingerprint of
 * its tables, and NEED_CHECK; whether the repair is over; a checksum.  Behind it
 * records: place, length, checksum, older bytes, newer bytes.
 *
 * The header is durable before anything of the image is changed, and a record
 * before its change is begun; one that is cut short is of a change that never
 * was, and does not count.  A place may have several records, and hold what any
 * of them says, before or after: repairs and undos can be interrupted, and go
 * on, in any order.  Until one of them is over, entries for what is past the
 * image's end may name what the file has grown by: nobody else may write to it.
 */
#ifndef QED_UNDO_H
#define QED_UNDO_H

#include "layer.h"

/* A change of eight bytes of the image. */
struct qed_undo_entry {
	uint64_t file_off;
	uint64_t order;			/* in time */
	uint64_t older, newer;
};

struct qed_undo {
	struct qed_file *file;		/* null: not open */
	bool begun;			/* it has its header */
	uint64_t end;			/* of its last whole record */
	/* of the image, before the repair */
	uint64_t image_size;		/* of its file */
	uint64_t fingerprint;
	bool need_check;
	bool over;			/* the repair; on the disk */
	/* what was saved before the file was opened, by place, then by time */
	struct qed_undo_entry *entries;
	uint64_t nentries, max;
};

/*
 * Opens the undo file of `image` and reads it: 0; -ENOENT, without a message;
 * -EEXIST or -EUCLEAN it is somebody else's, or another -errno, after one.  All
 * is to be ended by qed_undo_close(), in any case.
 */
int qed_undo_open(struct qed_undo *undo, struct qed_file *image);
void qed_undo_close(struct qed_undo *undo);

/*
 * Makes an undo file for a repair that is about to begin, durably, mode 0600, in
 * place of any that there is, for which image_size, fingerprint and need_check
 * are set.  0 or -errno after one message.
 */
int qed_undo_create(struct qed_undo *undo, struct qed_file *image);

/*
 * Makes durable whether the repair is over: nothing of the image may be changed
 * while it says so.  0 or -errno after one message.
 */
int qed_undo_set_over(struct qed_undo *undo, bool over);

/* Makes a record durable of `len` bytes of the image about to become `now`. */
int qed_undo_save(struct qed_undo *undo, struct qed_file *image,
		  const void *now, uint64_t len, uint64_t file_off);

/*
 * The first of the entries whose place is not before `file_off`, by its number:
 * nentries if there is none.
 */
uint64_t qed_undo_find(const struct qed_undo *undo, uint64_t file_off);
/* The same of the next place behind that of entry i. */
uint64_t qed_undo_next(const struct qed_undo *undo, uint64_t i);

/* Has one of them made that place hold `value`?  Or has one, or found it so? */
bool qed_undo_made(const struct qed_undo *undo, uint64_t file_off,
		   uint64_t value);
bool qed_undo_knows(const struct qed_undo *undo, uint64_t file_off,
		    uint64_t value);

/* Logs that this failed, in one of the two files; returns err. */
int qed_undo_complain_at(const struct qed_file *file, int err, const char *what,
			 uint64_t file_off);

/* Removes the file, durably: 0 or -errno after one message. */
int qed_undo_remove(struct qed_undo *undo);

/* Has the image an undo file, and not only a file of that name? */
bool qed_undo_exists(struct qed_file *image);

/*
 * Has the image an undo file of a repair that is not over?  If so what to do about
 * it is logged at that level.
 */
bool qed_undo_is_pending(const struct qed_file *image,
			 enum qed_log_level level);

/*
 * Clusters are about to move: to put tables back afterwards would map what others
 * have by then, also where the places that were saved are as the repair left
 * them.  Removes the undo file, durably, if there is one: 0, after a warning if
 * so, or -errno after one message: -EUCLEAN if that repair is not over.
 */
int qed_undo_drop(struct qed_file *image);

#endif
