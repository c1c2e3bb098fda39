/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libqed: work on whole images.  The conventions are those of qed.h, which is what
 * to include.
 */
#ifndef QED_JOBS_H
#define QED_JOBS_H

#include "qed.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Jobs: calls that work on a whole image and may take long.  Each takes one of
 * these, or null.  `progress` is called now and then from the thread that
 * called the job, while everything is consistent; `total` may grow as more is
 * found.  `cancelled` may be called from any thread and must be quick; once it
 * has returned true the job ends soon with -ECANCELED: what a job was making is
 * removed, what it was changing is left consistent, and the job can be run
 * again.
 */
struct qed_job {
	void (*progress)(void *opaque, uint64_t done, uint64_t total);
	bool (*cancelled)(void *opaque);
	void *opaque;
};

/* What becomes of an image that has been committed. */
enum qed_then {
	QED_THEN_EMPTY,
	QED_THEN_KEEP,			/* as it is */
	QED_THEN_DELETE,		/* its file is removed */
};

struct qed_commit_options {
	const char *base;		/* the image that receives, by its path or
					 * by its name in the one above; null:
					 * the
					 * backing file */
	enum qed_then then;
	enum qed_io_engine io;
	struct qed_log log;
	const struct qed_job *job;	/* or null; progress is in bytes of disk */
};

/*
 * Commits the image at `path`: the image that receives, QED or raw, gets what
 * the image itself, and all that lie between the two, say of the disk; it is
 * made larger first if it is shorter than the disk, and stays so if the rest
 * fails.  It then shows what the image at `path` does; images between, and any
 * other that has one of them or the receiving one behind it, do not show what
 * they did before.
 *
 * When all of that is durable the image at `path` is emptied, or removed,
 * durably.  It can be emptied only if its own backing file has received.
 * Interrupted at any moment its disk is the same as before; the same call goes
 * on from there.
 *
 * 0, or -errno after one message: -EINVAL if there is nothing to commit to or
 * it is not `base`'s, or if the receiving image cannot be made as large; -EBUSY
 * if one of the files is in use, -ENOSPC also for a device that is too small,
 * -ESTALE if another file has got the receiving one's name, -ENOTSUP for an
 * image that must not be emptied (unknown compat_features), -ECANCELED, or as
 * qed_image_open().
 */
int qed_image_commit(const char *path, const struct qed_commit_options *options);

#define QED_REBASE_UNSAFE  0x1u		/* only the name; nothing is compared */
#define QED_REBASE_MISSING 0x2u		/* with UNSAFE: of the new chain files may
					 * be missing */

struct qed_rebase_options {
	const char *backing;		/* stored as given, relative names count
					 * from the image's directory; null: none */
	const char *backing_format;	/* "raw" or "qed"; required with backing */
	uint32_t flags;			/* QED_REBASE_* */
	enum qed_io_engine io;
	struct qed_log log;
	const struct qed_job *job;	/* or null; progress is in bytes of disk */
};

/*
 * Gives the image at `path` another backing file, or none, durably.
 *
 * What the disk holds stays: where the image has nothing of its own and the new
 * chain shows other bytes than the old one, the image gets those of the old
 * one.  The name in the header changes last, and all at once.  Interrupted
 * before that the image is as it was, but for clusters that it has now of its
 * own; the same call goes on from there.
 *
 * With QED_REBASE_UNSAFE the name is all that changes, and the old backing file
 * need not be there: the caller answers for the new one to show the same.
 *
 * 0, or -errno after one message: -ELOOP if the image is in the new chain,
 * -EINVAL for names and formats that cannot be, -ENOTSUP if the header must not
 * be changed (unknown compat_features), -ECANCELED, -EBUSY, or as
 * qed_image_open().
 */
int qed_image_rebase(const char *path,
		     const struct qed_rebase_options *options);

enum qed_resize_by {
	QED_RESIZE_TO,			/* `size` is the new size */
	QED_RESIZE_MORE,		/* it is added to the old one */
	QED_RESIZE_LESS,		/* it is taken off */
};

#define QED_RESIZE_SHRINK 0x1u		/* what lies behind the end may go */

struct qed_resize_options {
	uint64_t size;			/* bytes; the new size is rounded up to
					 * 512 */
	enum qed_resize_by by;
	uint32_t flags;			/* QED_RESIZE_* */
	enum qed_preallocation preallocation;	/* of what is added */
	enum qed_io_engine io;
	struct qed_log log;
	const struct qed_job *job;	/* or null */
};

/*
 * Gives the disk of the image at `path` another size, durably.
 *
 * What is added reads as zeroes, whatever a longer backing file or an older,
 * longer disk had there; the backing files are opened for that.  The size
 * changes last: a failure or an interruption leaves the disk as it was.
 *
 * What is cut off is gone for good, and its space is given back; no backing
 * file is opened.  The image must be free of corruptions, and without unknown
 * compat_features bits, which may be about clusters that no table names.  The
 * size changes after the mappings; interrupted before that, the disk has its
 * old size and has lost some or all of what was to go; the same call goes on
 * from there.  With QED_RESIZE_SHRINK and the size that the disk has already,
 * what an interrupted call has not given back is.
 *
 * 0, or -errno after one message: -EINVAL for a size that is 0 or that the
 * geometry does not allow, or for a smaller one without QED_RESIZE_SHRINK;
 * -EUCLEAN, -EBUSY, -ECANCELED, -ENOTSUP, or as qed_image_open() and
 * qed_image_check().
 */
int qed_image_resize(const char *path,
		     const struct qed_resize_options *options);

/* What can be wrong with an entry of a table, and leaks. */
enum qed_fault_kind {
	QED_FAULT_RESERVED_BITS,	/* among the lowest 12 */
	QED_FAULT_UNALIGNED,		/* not at a cluster's start */
	QED_FAULT_PAST_END,		/* not wholly inside the file */
	QED_FAULT_IN_HEADER,
	QED_FAULT_IN_L1_TABLE,
	QED_FAULT_IN_L2_TABLE,
	QED_FAULT_SHARED,		/* another entry's cluster or table */
	QED_FAULT_LEAK,			/* clusters that nobody names */
	QED_FAULT_KINDS
};

/* What was done about a fault, or would be. */
enum qed_fault_action {
	QED_ACTION_NONE,
	QED_ACTION_DROP,		/* the mapping: the range reads as if
					 * it had never been written */
	QED_ACTION_COPY,		/* gets clusters of its own */
	QED_ACTION_EXTEND,		/* the file, over its cut last cluster */
	QED_ACTION_TRUNCATE,		/* the file */
	QED_ACTION_PUNCH,		/* the space goes back to the host */
	QED_ACTION_KINDS
};

struct qed_fault {
	enum qed_fault_kind kind;
	enum qed_fault_action action;
	unsigned level;			/* 1 or 2: which kind of table; 0: leak */
	uint64_t file_off;		/* of the entry, or of the leak */
	uint64_t entry;			/* its value; 0 for a leak */
	uint64_t disk_off;		/* what it maps */
	uint64_t len;			/* bytes of disk (0 if all of it is past
					 * the disk's end), of file for a leak */
	uint64_t count;			/* of neighbouring entries alike, or of
					 * clusters leaked */
};

/* "past-end", "drop" and so on, as the manual page lists them; static. */
const char *qed_fault_kind_name(enum qed_fault_kind kind);
const char *qed_fault_action_name(enum qed_fault_action action);

#define QED_CHECK_LEAKS       0x1u	/* mend leaks */
#define QED_CHECK_ALL         0x3u	/* mend everything */
#define QED_CHECK_DRY_RUN     0x4u	/* only say what would be done */
#define QED_CHECK_FORCE_SHARE 0x8u	/* take no locks; nothing is mended */

struct qed_check_options {
	uint32_t flags;			/* QED_CHECK_* */
	enum qed_io_engine io;
	struct qed_log log;
	const struct qed_job *job;	/* or null */
	/* Called for each fault, neighbours that are alike in one; or null. */
	void (*fault)(void *opaque, const struct qed_fault *fault);
	void *opaque;
};

struct qed_check_report {
	uint64_t total_clusters;	/* of the virtual disk */
	uint64_t allocated_clusters;	/* of them, that have data */
	uint64_t fragmented_clusters;	/* of those, that do not follow the one
					 * before in the file */
	uint64_t corruptions;		/* entries that are wrong now */
	uint64_t corruptions_fixed;
	uint64_t leaks;			/* clusters leaked now */
	uint64_t empty_leaks;		/* of them, not at the file's end, that
					 * take up no space: nothing to mend */
	uint64_t leaks_fixed;		/* clusters whose space was given back */
	uint64_t check_errors;		/* parts of tables that were unreadable */
	uint64_t image_end_offset;	/* behind the last cluster in use */
	bool need_check;		/* NEED_CHECK is set now */
	bool undo_saved;		/* PATH.check-undo holds older tables */
};

/*
 * Finds everything that is wrong with the tables of the image at `path`, and
 * mends it if asked to; opens no other file that it names.
 *
 * With QED_CHECK_ALL what two entries share is copied, so that each has its
 * own; entries that cannot be right are dropped; before an entry is changed its
 * table's bytes are made durable in PATH.check-undo, and until the repair is over
 * the image cannot be opened by QED_OPEN_RDWR or compacted.  With QED_CHECK_LEAKS
 * (part of ALL), if no corruption is left, leaks at the file's end are cut off,
 * others punched.  NEED_CHECK is cleared, durably, after a complete pass that
 * found no corruption.
 *
 * 0 if the check ran to its end (*report says what it found; unreadable tables
 * count as check_errors), else -errno after one message, *report as far as it
 * got: -EMEDIUMTYPE not a QED image, -ECANCELED, -EBUSY, -EUCLEAN a damaged
 * header, -EEXIST or -EUCLEAN PATH.check-undo is something else, -EFBIG or
 * -ENOMEM too many clusters for the memory, or as open(2) says.
 */
int qed_image_check(const char *path, const struct qed_check_options *options,
		    struct qed_check_report *report);

/*
 * Takes the changes to tables back that PATH.check-undo tells of, and the file's
 * length, durably, and removes that file.  Meanwhile NEED_CHECK is set; then it is
 * as before the repair.  Interrupted, it can be run again.  -ENOENT if there is
 * none, -ESTALE if anything but a repair has changed a table since (then nothing is
 * done), -EEXIST or -EUCLEAN if what has that name is something else, or as
 * qed_image_check(); one message.
 */
int qed_image_check_undo(const char *path, const struct qed_log *log);

#define QED_COMPACT_DEFRAG  0x1u	/* clusters in order of the disk, too */
#define QED_COMPACT_ZEROES  0x2u	/* drop clusters that hold zeroes only */
#define QED_COMPACT_DRY_RUN 0x4u	/* only say what would come of it */

struct qed_compact_options {
	uint32_t flags;			/* QED_COMPACT_* */
	enum qed_io_engine io;
	uint64_t batch;			/* bytes moved between two syncs, and by
					 * which the file may grow for a while;
					 * 0, or more: 64 MiB */
	struct qed_log log;
	const struct qed_job *job;	/* or null; in bytes of clusters */
};

struct qed_compact_report {
	uint64_t size_before, size_after;	/* of the file, bytes */
	uint64_t end_before, end_after;	/* behind the last cluster in use */
	uint64_t clusters;		/* that hold data (afterwards) */
	uint64_t fragments_before;	/* of them, that do not follow the one */
	uint64_t fragments_after;	/* before in the file; as check counts */
	uint64_t moved, moved_tables;	/* times that one was */
	uint64_t dropped;		/* clusters of zeroes */
	uint64_t dropped_tables;	/* L2 tables that mapped nothing */
};

/*
 * Makes the file of the image at `path` as short as it can be without losing
 * anything: clusters and L2 tables are moved down to where nothing is, and the
 * file is cut.  What nobody needs goes: L2 tables without mappings, and, if
 * asked for, clusters of zeroes.  Opens no other file that the image names.
 *
 * With QED_COMPACT_DEFRAG all L2 tables and data get into the order of the
 * disk, for which the file may grow on the way, by a batch or by what the
 * tables take up.  With QED_COMPACT_DRY_RUN the file is only read, and *report
 * tells sizes that hold unless clusters of zeroes are dropped.
 *
 * The disk reads the same at any time, whatever interrupts the job; it can be
 * run again then, and goes on.  After a failure NEED_CHECK may be left set.
 *
 * 0, all of it durable, and *report filled in; else -errno after one message:
 * -EUCLEAN the image is damaged (and has not been changed), -ECANCELED, -EBUSY,
 * -EMEDIUMTYPE not a QED image, -ENOSPC the host is full, -ENOMEM or -EFBIG too
 * many clusters for the memory, or as open(2) and the host's storage say.
 */
int qed_image_compact(const char *path,
		      const struct qed_compact_options *options,
		      struct qed_compact_report *report);

enum qed_difference_kind {
	QED_SAME,
	QED_DIFFERENT_BYTES,		/* in the sector at disk_off */
	QED_DIFFERENT_SIZES,		/* only in strict mode */
	QED_DIFFERENT_KINDS,		/* enum qed_map_kind at disk_off, only
					 * in strict mode */
};

struct qed_difference {
	enum qed_difference_kind kind;
	uint64_t disk_off;		/* of the first difference, or error */
	unsigned image;			/* after an error: 0 the first, 1 the
					 * second could not be read */
	bool mapping;			/* it is qed_map() that failed */
};

/*
 * Do two images have the same disk?  The shorter one counts as followed by
 * zeroes; in strict mode sizes have to be the same, and what is allocated where
 * too.  Reads only what is data in one of them and not in both from one place of
 * one file, by several threads.  It blocks, as qed_map().  `job` may be null; its
 * progress is in bytes of disk.  0 with the answer in *difference; -errno, with
 * the place there; or -ECANCELED.
 */
int qed_compare(struct qed_image *image1, struct qed_image *image2, bool strict,
		const struct qed_job *job, struct qed_difference *difference);

#define QED_CONVERT_IN_PLACE       0x1u	/* write into the target that is there;
					 * a block device or pipe always is */
#define QED_CONVERT_TARGET_IS_ZERO 0x2u	/* it reads as zeroes already */
#define QED_CONVERT_UNSAFE         0x4u	/* sync nothing: the target is complete
					 * only once the host has written it */
#define QED_CONVERT_OFFLOAD        0x8u	/* let the host copy what is data, zeroes
					 * included (copy_file_range) */
#define QED_CONVERT_SCAN           0x10u	/* look for zeroes also where data could
					 * be shared with the source's file */

struct qed_convert_options {
	struct qed_image *const *sources;	/* open images: their disks, one
					 * after the other; */
	unsigned nsources;
	int input;			/* or, if nsources is 0, a descriptor that
					 * is read to its end, */
	const char *input_name;		/* as messages call it; null: standard
					 * input */
	uint64_t skip, len;		/* the part of the disks to be copied; cut
					 * to what there is.  Not of an input */
	const char *format;		/* the target's: "raw" or "qed" */
	/* Of a new QED target: geometry and backing file; no size, no log.  With a
	 * backing file only what differs from its disk is written. */
	struct qed_create_options image;
	uint32_t flags;			/* QED_CONVERT_* */
	uint64_t sparse_size;		/* bytes, a multiple of 512: shorter runs of
					 * zeroes count as data; 0: all is data */
	uint64_t max_size;		/* a larger disk is refused */
	unsigned nworkers;		/* threads; 0: the library's choice */
	enum qed_io_engine io;
	struct qed_log log;
	const struct qed_job *job;	/* or null */
};

/* Defaults: all of the disks, to raw, zeroes left out. */
void qed_convert_options_init(struct qed_convert_options *options);

/*
 * Copies a disk to `path`.  A new file has no name until it is complete and
 * (unless UNSAFE) durable, then it replaces what is there and takes over its
 * permissions, as in qed_image_create(); one that is written in place, a block device, and a pipe ("-" is standard output) are incomplete
 * after a failure.  Zeroes are left out of files, where they are runs of
 * sparse_size bytes, and space is shared with the sources' files where the host
 * can do that.  Nothing is left of what an existing target held up to the
 * disk's size; what is behind that stays.
 *
 * The disk's size is rounded up to 512 bytes; that of an input is known only at
 * its end.  0, or -errno after one message: -ECANCELED, -EBUSY the target is in
 * use, -EINVAL it is a file of a source's or the backing file's chain or the
 * options make no sense, -ENOSPC it or its host is too small, -EFBIG the disk
 * is larger than max_size, or as open(2), read(2), write(2) say.
 */
int qed_image_convert(const char *path,
		      const struct qed_convert_options *options);

struct qed_measurement {
	uint64_t required;		/* bytes of a file with what is data now */
	uint64_t fully_allocated;	/* and of one with data everywhere */
};

/*
 * How long the file of a QED image without a backing file would be, of the size
 * and geometry in `options` (whose other fields are not looked at, but for
 * `log` and `job`), if it got the data of `image`, an open image, or none if that
 * is null.  A virtual_size of 0 is that of `image`.  It blocks, as qed_map(); the
 * job's progress is in bytes of the image's disk.  0; -ECANCELED; or after a
 * message -EINVAL for a geometry or size that the format does not allow, or as
 * qed_map().
 */
int qed_measure(struct qed_image *image,
		const struct qed_create_options *options,
		struct qed_measurement *measurement);

#ifdef __cplusplus
}
#endif

#endif
