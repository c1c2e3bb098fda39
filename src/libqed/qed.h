/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libqed: read, write and make QED disk images.
 *
 * Conventions
 *   - Functions return 0 (or a count) on success and -errno on failure.
 *     -EUCLEAN means "the image is damaged", -ENOTSUP "the image uses a feature
 *     this library does not know", -EBUSY "somebody else has the image open",
 *     -EIO only ever comes from the host's storage (or follows a failed flush).
 *   - All sizes and offsets are in bytes unless a name says otherwise.
 *     A disk offset counts in the virtual disk, a file offset in the image file.
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

struct qed_open_options {
	uint32_t flags;			/* QED_OPEN_* */
	enum qed_io_engine io;
	uint64_t l2_cache;		/* budget for L2 tables in memory */
	unsigned commit_seconds;	/* metadata is committed at least this
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
 * first; each mapping that had to be dropped is reported by a warning.
 *
 * On success stores a handle in *image, to be released by qed_image_close().
 * On failure *image is null, exactly one QED_LOG_ERROR message has been written
 * and the result is
 *   -ENOENT, -EACCES, -EROFS, ...  as open(2) says, of any file of the chain
 *   -EBUSY    another program holds a conflicting lock
 *   -EMEDIUMTYPE  not a QED image; -ENOTSUP unknown feature bits
 *   -EUCLEAN  a header or the L1 table is damaged
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
};

/* Fills *info.  Cheap: no I/O.  Thread-safe. */
void qed_image_get_info(struct qed_image *image, struct qed_image_info *info);

/* Stats the top image's file through its open descriptor: 0 or -errno. */
int qed_image_stat(struct qed_image *image, struct stat *st);

/*
 * The same for the file system that holds it: free space as statvfs(3).
 */
struct statvfs;
int qed_image_statvfs(struct qed_image *image, struct statvfs *st);

/*
 * Asynchronous requests.  `done(opaque, result)` is called exactly once, either
 * from inside the call or later from a thread of the library; it must not block,
 * and may start further requests.  The iov array and the memory it points at
 * belong to the library until then.  `result` is the number of bytes moved, or
 * -errno.
 *
 * qed_readv: reads the virtual disk; shorter than asked only at its end, 0 at or
 *   past it.  -EUCLEAN where the tables that map the range are damaged.
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
 * Makes a range read as zeroes, at once.  Whole clusters become zero clusters
 * where they hide backing data, else unallocated, and the space that they had in
 * the image file is given back after the next flush; the edges are written as
 * zeroes.  Result 0 or -errno as qed_writev(); a range past the end is cut short.
 * Durable only after a later qed_flush().
 */
void qed_zero(struct qed_image *image, uint64_t offset, uint64_t len,
	      void (*done)(void *opaque, int64_t result), void *opaque);

/*
 * Gives every cluster of a range its place in the image file, reserved on the
 * host, so that later writes there cannot run out of space.  Contents stay.
 * Result and durability as qed_zero(); -EFBIG if the range passes the disk's end.
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

/*
 * Blocking forms, for programs without an event loop.  They must not be called
 * from a `done` callback.  Results as above.
 */
int64_t qed_pread(struct qed_image *image, void *buf, size_t len,
		  uint64_t offset);
int64_t qed_pwrite(struct qed_image *image, const void *buf, size_t len,
		   uint64_t offset);
int qed_fsync(struct qed_image *image);

struct qed_create_options {
	uint64_t virtual_size;		/* bytes; rounded up to 512; 0 with a
					 * backing file: take its size */
	uint32_t cluster_size;		/* bytes; 0: default */
	uint32_t table_size;		/* clusters; 0: default */
	const char *backing;		/* stored as given, or null; relative
					 * names count from the new image's
					 * directory */
	const char *backing_format;	/* "raw" or "qed"; required with backing */
	struct qed_log log;
};

/*
 * Makes an empty image at `path`, replacing what is there.  It is written under
 * a temporary name beside it and renamed when complete and durable: there is
 * never a half-made file.  -EINVAL for a geometry or size that the format does
 * not allow, otherwise as open(2), write(2), rename(2) say; one QED_LOG_ERROR
 * message on failure.
 */
int qed_image_create(const char *path,
		     const struct qed_create_options *options);

/* The version of the library, as "1.2.3". */
const char *qed_version(void);

#ifdef __cplusplus
}
#endif
#endif
