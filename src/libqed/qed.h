/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libqed: read, write and make QED disk images.  qed-jobs.h, which this includes,
 * has what works on whole ones.
 *
 * Conventions
 *   - Functions return 0 (or a count) on success and -errno on failure.
 *     -EUCLEAN means "the image is damaged", -ENOTSUP "the image uses a feature
 *     this library does not know", -EBUSY "somebody else has the image open",
 *     -EIO only ever comes from the host's storage (or follows a failed flush).
 *   - All sizes and offsets are in bytes unless a name says otherwise.  A disk
 *     offset counts in the virtual disk, a file offset in the image file.
 *   - The library never prints and never exits: human-readable messages, each
 *     one line that names the file, go to the caller's log callback.
 *   - An image handle may be used by any number of threads at once, except that
 *     qed_image_close() must be the last call and must not overlap any other.
 */
#ifndef QED_H
#define QED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QED_CLUSTER_SIZE_DEFAULT 65536u	/* bytes */
#define QED_TABLE_SIZE_DEFAULT   4u	/* clusters */
#define QED_L2_CACHE_DEFAULT     (UINT64_C(32) << 20)
#define QED_COMMIT_DEFAULT       5u	/* seconds */

/* Feature bits of the header's `features` field. */
#define QED_FEATURE_BACKING_FILE            UINT64_C(0x01)
#define QED_FEATURE_NEED_CHECK              UINT64_C(0x02)
#define QED_FEATURE_BACKING_FORMAT_NO_PROBE UINT64_C(0x04)

struct qed_image;
struct qed_job;				/* qed-jobs.h: progress of what takes long */

enum qed_log_level {
	QED_LOG_ERROR,		/* a call fails, or data is at risk */
	QED_LOG_WARNING,	/* the call goes on, the user should know */
	QED_LOG_INFO,
	QED_LOG_DEBUG,
};

/*
 * Where messages go.  `write` may be called from any thread of the library, for
 * as long as the image is open; `message` is one line without a newline, valid
 * during the call only.  A null `write` discards messages.
 */
struct qed_log {
	void (*write)(void *opaque, enum qed_log_level level,
		      const char *message);
	void *opaque;
};

/* The engine that moves bytes between the image files and memory. */
enum qed_io_engine {
	QED_IO_AUTO,		/* io_uring where the kernel allows it */
	QED_IO_URING,
	QED_IO_THREADS,
};

#define QED_OPEN_RDWR        0x1u	/* otherwise read-only */
#define QED_OPEN_NO_BACKING  0x2u	/* holes read as zeroes; read-only */
#define QED_OPEN_FORCE_SHARE 0x4u	/* take no locks; read-only */
#define QED_OPEN_DETECT_ZEROES 0x8u	/* qed_writev() stores no zeroes */
#define QED_OPEN_RAW         0x10u	/* the file has no format: its bytes are
					 * the disk; read-only */

struct qed_open_options {
	uint32_t flags;			/* QED_OPEN_* */
	enum qed_io_engine io;
	uint64_t l2_cache;		/* budget for L2 tables in memory */
	unsigned commit_seconds;	/* tables are written at least this
					 * often; 0: at a flush only */
	const char *backing;		/* overrides the top image's backing
					 * name (relative to the working
					 * directory), or null */
	const char *backing_format;	/* "raw" or "qed": the format of the top
					 * image's backing file, or null */
	struct qed_log log;
};

/* Fills in the defaults: read-only, automatic engine, default budgets. */
void qed_open_options_init(struct qed_open_options *options);

/*
 * Opens the QED image at `path` with its whole backing chain, and locks every
 * file of it as QEMU does (write lock on the top image if it is opened
 * read-write, shared read locks otherwise).
 *
 * With QED_OPEN_RDWR an image that carries NEED_CHECK is checked and repaired
 * first; each mapping that had to be dropped is reported by a warning.  Another
 * image of the chain that carries it, or whose repair was interrupted, is opened
 * with a warning.
 *
 * On success stores a handle in *image, to be released by qed_image_close().
 * On failure *image is null, exactly one QED_LOG_ERROR message has been written
 * and the result is
 *   -ENOENT, -EACCES, -EROFS, ...  as open(2) says, of any file of the chain
 *   -EBUSY    another program holds a conflicting lock
 *   -EMEDIUMTYPE  not a QED image; -ENOTSUP unknown feature bits
 *   -EUCLEAN  a header or the L1 table is damaged; with QED_OPEN_RDWR also: a
 *             repair of the image was interrupted
 *   -ELOOP    the backing chain contains itself
 *   -EINVAL   unusable options.
 * Strings in `options` are not used after the call returns.
 */
int qed_image_open(const char *path, const struct qed_open_options *options,
		   struct qed_image **image);

/*
 * Commits everything, clears NEED_CHECK durably, drops all locks and frees the
 * handle, whatever the result.  No request may be in flight.  Returns 0 if
 * everything written is durable, else the -errno of the first flush that failed
 * (then NEED_CHECK stays set in the image).
 */
int qed_image_close(struct qed_image *image);

/* What a header says, and a few facts about an open image. */
struct qed_image_info {
	const char *format;		/* "qed"; "raw" of a layer; static */
	uint64_t virtual_size;		/* bytes */
	uint32_t cluster_size;		/* bytes */
	uint32_t table_size;		/* clusters per L1 or L2 table */
	uint32_t header_size;		/* clusters */
	uint64_t features;
	uint64_t compat_features;
	uint64_t autoclear_features;
	uint64_t l1_table_offset;	/* file offset */
	const char *backing_filename;	/* as stored, or null; lives as long as
					 * the image handle */
	const char *backing_path;	/* the same resolved against the image's
					 * directory, or null; likewise */
	const char *backing_format;	/* "raw", "qed", or null if unknown
					 * without looking; static */
	uint64_t allocated;		/* bytes of virtual disk that have a data
					 * cluster in any layer, at most
					 * virtual_size; an upper bound where
					 * layers overlap or clusters leaked */
	bool writable;			/* opened read-write */
	unsigned nlayers;		/* images in the chain, this included */
	uint64_t l2_cache;		/* bytes: the budget for L2 tables */
	const char *io_engine;		/* "io_uring" or "threads"; static */
};

/* Fills *info.  Cheap: no I/O.  Thread-safe. */
void qed_image_get_info(struct qed_image *image, struct qed_image_info *info);

/*
 * The path of the chain's image number `layer`, 0 being the top, as it was
 * opened; null past the last.  Lives as long as the image handle.  Thread-safe.
 */
const char *qed_image_get_path(struct qed_image *image, unsigned layer);

/*
 * For the message about a request or qed_map() that has failed: the path, as
 * above, of the file below the top image if it is there that something could
 * not be read, else null.  A write, too, may have had to read there.  Of several
 * that fail at a time it is the last one's.  Lives as long as the image handle.
 * Thread-safe.
 */
const char *qed_image_failed_below(struct qed_image *image);

/*
 * What has been done since the image was opened.  A request counts from when it
 * is about to call `done`, whether or not it has failed.
 */
struct qed_stats {
	uint64_t reads, writes, flushes, zeroes, preallocations, seeks;
	uint64_t bytes_read, bytes_written;	/* by reads, writes */
	uint64_t l2_hits;		/* look-ups of a range in one image's
					 * tables that memory could answer */
	uint64_t l2_misses;		/* and that had to wait for a table */
	uint64_t l2_loads;		/* reads of a part of a table */
	uint64_t allocations;		/* clusters taken for data, reused ones
					 * and those for failed writes too */
	uint64_t commits;		/* that wrote tables */
	uint64_t syncs;			/* of the top image's file, by flushes
					 * and commits */
};

/* Fills *stats.  No I/O; thread-safe.  Each number is exact, but they need not
 * be of one moment while requests are under way. */
void qed_image_get_stats(struct qed_image *image, struct qed_stats *stats);

/*
 * The same of the chain's image number `layer`, 0 being the top, as if it had
 * been opened itself: 0, or -ENOENT past the last.  A raw file has a format, a
 * virtual size and `allocated` only.  Thread-safe.
 */
int qed_image_get_layer_info(struct qed_image *image, unsigned layer,
			     struct qed_image_info *info);

/* What an image's clusters are used for, by its tables. */
struct qed_usage {
	uint64_t data, zero;		/* entries that are data, zero clusters */
	uint64_t tables;		/* L2 tables */
	uint64_t leaked;		/* whole clusters of the file that no
					 * entry names; not what is behind the
					 * last one in use of a device */
	uint64_t damaged;		/* entries that cannot be right; what
					 * they name counts as leaked */
};

/*
 * Counts the clusters of the chain's image number `layer`.  It blocks, and
 * reads all tables, holes excepted, each once; it needs a bit of memory for
 * each cluster of the file that is in use, at most 256 MiB.  0; -ENOENT past
 * the last layer, -EMEDIUMTYPE for a raw file, -EFBIG if there are too many for
 * that, -ECANCELED, or -errno.  Counts the file as it is: of an image open for
 * writing flush it first.  `job` may be null; its progress is in bytes of tables.
 */
int qed_image_get_usage(struct qed_image *image, unsigned layer,
			const struct qed_job *job, struct qed_usage *usage);

/* Stats the top image's file through its open descriptor: 0 or -errno. */
int qed_image_stat(struct qed_image *image, struct stat *st);
/* The same for the chain's image number `layer`; -ENOENT past the last. */
int qed_image_stat_layer(struct qed_image *image, unsigned layer,
			 struct stat *st);

/*
 * The same for the file system that holds it: free space as statvfs(3).
 */
struct statvfs;
int qed_image_statvfs(struct qed_image *image, struct statvfs *st);

/*
 * Asynchronous requests.  `done(opaque, result)` is called exactly once, either
 * from inside the call or later from a thread of the library; it must not
 * block, and may start further requests.  The iov array and the memory it
 * points at belong to the library until then.  `result` is the number of bytes
 * moved, or -errno.
 *
 * qed_readv: reads the virtual disk; shorter than asked only at its end, 0 at
 *   or past it.  -EUCLEAN where the tables that map the range are damaged.
 * qed_writev: the data is visible to every read that starts after `done`; it is
 *   durable only after a later qed_flush().  Cut short at the end of the disk;
 *   -EFBIG at or past it, -EROFS on a read-only image, -ENOSPC if the host is
 *   full (nothing else is harmed, a later write may succeed), -EIO for ever
 *   after a failed flush.
 * qed_flush: when it succeeds, every write whose `done` ran before the call is
 *   durable, and the image is one that `qemu-img check` finds clean of errors.
 *   Result 0 or -errno; after a failure all later writes and flushes give -EIO.
 */
void qed_readv(struct qed_image *image, const struct iovec *iov, int iovcnt,
	       uint64_t offset, void (*done)(void *opaque, int64_t result),
	       void *opaque);
void qed_writev(struct qed_image *image, const struct iovec *iov, int iovcnt,
		uint64_t offset, void (*done)(void *opaque, int64_t result),
		void *opaque);
void qed_flush(struct qed_image *image,
	       void (*done)(void *opaque, int64_t result), void *opaque);

/*
 * A read without a copy: where the bytes are, for who can splice(2) or map
 * them.
 *
 * qed_lend: true, with *loan, if all of [offset, offset + len) lies on the
 *   disk, is data in no more than QED_LOAN_PARTS pieces of host files, and if
 *   tables in memory say so and the host's page cache had all of it just now:
 *   neither the call nor reading the bytes is likely to wait.  False: use
 *   qed_readv().  What it lends stays in its place until qed_lend_end(), which
 *   must follow and may on any thread; writes to the disk in between do show in
 *   it, as they do in a read.
 * qed_lend_end: `result` is the number of bytes that were read, or -errno, and
 *   is counted as that of a read.  Who cannot tell how many came, as by
 *   libfuse's fuse_reply_data(), says how many were asked for.
 */
#define QED_LOAN_PARTS 16

struct qed_loan {
	struct qed_loan_part {
		int fd;			/* the library's; only for reading */
		uint64_t offset;	/* in that file */
		uint64_t len;
	} parts[QED_LOAN_PARTS];
	unsigned nparts;
	unsigned token;			/* the library's */
};

bool qed_lend(struct qed_image *image, uint64_t offset, uint64_t len,
	      struct qed_loan *loan);
void qed_lend_end(struct qed_image *image, const struct qed_loan *loan,
		  int64_t result);

/*
 * Makes a range read as zeroes, at once.  Whole clusters become zero clusters
 * where they hide backing data, else unallocated, and the space that they had
 * in the image file is given back after the next flush; the edges are written
 * as zeroes.  Result 0 or -errno as qed_writev(); a range past the end is cut
 * short.  Durable only after a later qed_flush().
 */
void qed_zero(struct qed_image *image, uint64_t offset, uint64_t len,
	      void (*done)(void *opaque, int64_t result), void *opaque);

/*
 * Gives every cluster of a range its place in the image file, reserved on the
 * host, so that later writes there cannot run out of space.  Contents stay.
 * Result and durability as qed_zero(); -EFBIG if the range passes the disk's
 * end.
 */
void qed_preallocate(struct qed_image *image, uint64_t offset, uint64_t len,
		     void (*done)(void *opaque, int64_t result), void *opaque);

/*
 * Finds the next data or hole at or after disk offset `offset` over the whole
 * chain, as lseek(2) with `whence` SEEK_DATA or SEEK_HOLE does.  Zero clusters
 * and unallocated ranges are holes; the disk's end counts as a hole.  Result:
 * the offset found, -ENXIO at or past the end (or no more data), or -errno.
 */
void qed_seek(struct qed_image *image, uint64_t offset, int whence,
	      void (*done)(void *opaque, int64_t result), void *opaque);

/* What a range of the virtual disk is. */
enum qed_map_kind {
	QED_MAP_DATA,			/* bytes that a file of the chain holds */
	QED_MAP_ZERO,			/* zeroes that one says are there: zero
					 * clusters, holes of a raw file */
	QED_MAP_HOLE,			/* zeroes because none has anything */
};

struct qed_map_extent {
	enum qed_map_kind kind;
	unsigned depth;			/* whose word that is: 0 is the top
					 * image; of a HOLE the last one asked */
	bool placed;			/* it has a place in that file; */
	uint64_t file_off;		/* there, of the first byte, else 0 */
	uint64_t len;			/* bytes */
};

/*
 * Finds what is at disk offset `offset` over the whole chain, for at most `len`
 * bytes: the longest extent that is all alike, and contiguous in its file.  0;
 * -ENXIO at or past the disk's end or if `len` is 0; -EUCLEAN (logged) where
 * the tables are damaged, or another -errno.  Where the image is written
 * meanwhile the answer may be old at once.  It blocks, and must not be called
 * from a `done` callback.  Thread-safe.
 */
int qed_map(struct qed_image *image, uint64_t offset, uint64_t len,
	    struct qed_map_extent *extent);

/*
 * Blocking forms, for programs without an event loop.  They must not be called
 * from a `done` callback.  Results as above.
 */
int64_t qed_pread(struct qed_image *image, void *buf, size_t len,
		  uint64_t offset);
int64_t qed_pwrite(struct qed_image *image, const void *buf, size_t len,
		   uint64_t offset);
int qed_fsync(struct qed_image *image);

/* Where the clusters of a new disk, or of a new part of one, are. */
enum qed_preallocation {
	QED_PREALLOCATION_OFF,		/* nowhere, until they are written */
	QED_PREALLOCATION_METADATA,	/* they have a place in the file, but no
					 * space on the host */
	QED_PREALLOCATION_FALLOC,	/* the host has reserved their space */
	QED_PREALLOCATION_FULL,		/* zeroes have been written there */
};

#define QED_CREATE_RELATIVE 0x1u	/* `backing` counts from the working directory;
					 * what is stored counts from the new
					 * image's, where links lead to */
#define QED_CREATE_UNOPENED 0x2u	/* the backing file is not opened and need not
					 * be there; virtual_size is required, and
					 * whether that file is based on the one
					 * that is replaced is not seen */
#define QED_CREATE_SIZED    0x4u	/* virtual_size counts also if it is 0 */

struct qed_create_options {
	uint64_t virtual_size;		/* bytes; rounded up to 512; 0 with a
					 * backing file: take its size, unless
					 * QED_CREATE_SIZED is there */
	uint32_t cluster_size;		/* bytes; 0: default */
	uint32_t table_size;		/* clusters; 0: default */
	const char *backing;		/* stored as given, or null; relative
					 * names count from the new image's
					 * directory */
	const char *backing_format;	/* "raw" or "qed"; required with backing */
	uint32_t flags;			/* QED_CREATE_* */
	enum qed_preallocation preallocation;	/* not with a backing file */
	struct qed_log log;
	const struct qed_job *job;	/* or null; progress is the preallocation's,
					 * in bytes of disk */
};

/*
 * Makes an empty image at `path`, replacing what is there.  It has no name, or
 * where the host cannot do that a temporary one beside it, until it is complete
 * and durable: there is never a half-made file.  What it replaces leaves it its
 * permissions, to which the owner's to read and write are added, and, where the
 * process may do that, its owner, group and ACL; if not, others are permitted
 * less, never more.  -EINVAL for a geometry or size
 * that the format does not allow, a preallocation over a backing file, and a
 * path that is a file of the backing file's chain; -ECANCELED if the job was
 * cancelled before the image got its name; otherwise as open(2), write(2),
 * rename(2) say; one QED_LOG_ERROR message on failure.  0 with the image and
 * its name durable.
 */
int qed_image_create(const char *path,
		     const struct qed_create_options *options);

#define QED_SNAPSHOT_REPLACE   0x1u	/* a file that has the overlay's name, as
					 * qed_image_create() does */
#define QED_SNAPSHOT_ABSOLUTE  0x2u	/* stores the image's whole path */
#define QED_SNAPSHOT_KEEP_MODE 0x4u	/* leaves the image's write permission */

/*
 * Freezes the image at `path`: makes an empty image at `overlay`, of its size
 * and geometry, with it as its backing file; from then on it is the overlay
 * that is to be written.  The name that is stored counts from the overlay's
 * directory, or if that is a link to a file to be replaced from that file's, so
 * both can be moved together.  The image is locked meanwhile;
 * then nobody may write it any more by its permissions, where these can be
 * changed (a warning says if not).
 *
 * The overlay gets its name, at one go with finding that nothing has it, when
 * it is durable, and the image's permissions change when the name is durable,
 * too: whatever interrupts that, there is no overlay or all of it.  It takes no
 * time worth cancelling.
 *
 * 0 with all of that durable, or -errno after one message: -EEXIST the
 * overlay's name is taken, -EINVAL it is that of the image or of one behind it,
 * -EUCLEAN the image was not closed cleanly, -ESTALE the image's name went to
 * another file meanwhile, or as qed_image_open() and qed_image_create().
 */
int qed_image_snapshot(const char *path, const char *overlay, uint32_t flags,
		       const struct qed_log *log);

/* The version of the library, as "1.2.3". */
const char *qed_version(void);

#ifdef __cplusplus
}
#endif

#include "qed-jobs.h"

#endif
