# SPDX-License-Identifier: LGPL-2.1-or-later

# --- libqed -----------------------------------------------------------------

include_HEADERS = %D%/libqed/qed.h %D%/libqed/qed-jobs.h
pkgconfigdir = $(libdir)/pkgconfig
nodist_pkgconfig_DATA = %D%/libqed/qed.pc

# Everything of the library.  Unit tests link this, and so reach what the
# installed library keeps to itself.
noinst_LTLIBRARIES += libqed-core.la
libqed_core_la_SOURCES = \
	%D%/libqed/alloc.c \
	%D%/libqed/alloc.h \
	%D%/libqed/arrange.c \
	%D%/libqed/arrange.h \
	%D%/libqed/backing.c \
	%D%/libqed/backing.h \
	%D%/libqed/blame.c \
	%D%/libqed/blame.h \
	%D%/libqed/builder.c \
	%D%/libqed/builder.h \
	%D%/libqed/chain.c \
	%D%/libqed/chain.h \
	%D%/libqed/check.c \
	%D%/libqed/check.h \
	%D%/libqed/cluster.c \
	%D%/libqed/cluster.h \
	%D%/libqed/commit.c \
	%D%/libqed/commit.h \
	%D%/libqed/compact.c \
	%D%/libqed/compact.h \
	%D%/libqed/compare.c \
	%D%/libqed/copier.c \
	%D%/libqed/copier.h \
	%D%/libqed/copies.c \
	%D%/libqed/convert.c \
	%D%/libqed/convert.h \
	%D%/libqed/copy.c \
	%D%/libqed/copy.h \
	%D%/libqed/create.c \
	%D%/libqed/create.h \
	%D%/libqed/differ.c \
	%D%/libqed/differ.h \
	%D%/libqed/direct.c \
	%D%/libqed/direct.h \
	%D%/libqed/empty.c \
	%D%/libqed/empty.h \
	%D%/libqed/engine-share.c \
	%D%/libqed/engine-threads.c \
	%D%/libqed/engine-uring.c \
	%D%/libqed/engine.c \
	%D%/libqed/engine.h \
	%D%/libqed/fault.c \
	%D%/libqed/fetch.c \
	%D%/libqed/fetch.h \
	%D%/libqed/file.c \
	%D%/libqed/file.h \
	%D%/libqed/flush.c \
	%D%/libqed/format.c \
	%D%/libqed/format.h \
	%D%/libqed/fingerprint.c \
	%D%/libqed/fingerprint.h \
	%D%/libqed/fresh.c \
	%D%/libqed/hints.c \
	%D%/libqed/hints.h \
	%D%/libqed/image.c \
	%D%/libqed/image.h \
	%D%/libqed/inflight.c \
	%D%/libqed/inflight.h \
	%D%/libqed/job.h \
	%D%/libqed/l2cache.c \
	%D%/libqed/l2cache.h \
	%D%/libqed/layer.c \
	%D%/libqed/layer.h \
	%D%/libqed/leaks.c \
	%D%/libqed/lend.c \
	%D%/libqed/lock.c \
	%D%/libqed/lock.h \
	%D%/libqed/map.c \
	%D%/libqed/mend.c \
	%D%/libqed/mend.h \
	%D%/libqed/measure.c \
	%D%/libqed/merge.c \
	%D%/libqed/merge.h \
	%D%/libqed/meta.c \
	%D%/libqed/meta.h \
	%D%/libqed/newfile.c \
	%D%/libqed/newfile.h \
	%D%/libqed/owners.c \
	%D%/libqed/owners.h \
	%D%/libqed/pack.c \
	%D%/libqed/origin.c \
	%D%/libqed/origin.h \
	%D%/libqed/pieces.c \
	%D%/libqed/plan.c \
	%D%/libqed/probe.h \
	%D%/libqed/read.c \
	%D%/libqed/rebase.c \
	%D%/libqed/rebase.h \
	%D%/libqed/receiver.c \
	%D%/libqed/receiver.h \
	%D%/libqed/reclaim.c \
	%D%/libqed/reclaim.h \
	%D%/libqed/relative.c \
	%D%/libqed/relative.h \
	%D%/libqed/relocate.c \
	%D%/libqed/relocate.h \
	%D%/libqed/repair.h \
	%D%/libqed/request.c \
	%D%/libqed/request.h \
	%D%/libqed/resize.c \
	%D%/libqed/resize.h \
	%D%/libqed/revert.c \
	%D%/libqed/revert.h \
	%D%/libqed/saving.c \
	%D%/libqed/shrink.c \
	%D%/libqed/shrink.h \
	%D%/libqed/scan.c \
	%D%/libqed/scan.h \
	%D%/libqed/seek.c \
	%D%/libqed/snapshot.c \
	%D%/libqed/snapshot.h \
	%D%/libqed/source.c \
	%D%/libqed/source.h \
	%D%/libqed/spare.c \
	%D%/libqed/spare.h \
	%D%/libqed/stats.c \
	%D%/libqed/stats.h \
	%D%/libqed/stream.c \
	%D%/libqed/stream.h \
	%D%/libqed/sync.c \
	%D%/libqed/sync.h \
	%D%/libqed/table.c \
	%D%/libqed/table.h \
	%D%/libqed/target-file.c \
	%D%/libqed/target-qed.c \
	%D%/libqed/target-stream.c \
	%D%/libqed/target.c \
	%D%/libqed/target.h \
	%D%/libqed/ticker.c \
	%D%/libqed/ticker.h \
	%D%/libqed/transfer.c \
	%D%/libqed/transfer.h \
	%D%/libqed/trim.c \
	%D%/libqed/trim.h \
	%D%/libqed/undo.c \
	%D%/libqed/undo.h \
	%D%/libqed/unmap.c \
	%D%/libqed/unmap.h \
	%D%/libqed/used.c \
	%D%/libqed/used.h \
	%D%/libqed/usage.c \
	%D%/libqed/util.c \
	%D%/libqed/util.h \
	%D%/libqed/version.c \
	%D%/libqed/write.c \
	%D%/libqed/write.h
libqed_core_la_CFLAGS = $(AM_CFLAGS) $(FRAME_CFLAGS) $(LIBURING_CFLAGS)
libqed_core_la_LIBADD = $(LIBURING_LIBS)

# -version-info current:revision:age, by libtool's rules: a release that only
# mends steps revision; one that adds functions steps current and age and zeroes
# revision; one that takes away or changes steps current and zeroes the rest.
lib_LTLIBRARIES += libqed.la
libqed_la_SOURCES =
libqed_la_LIBADD = libqed-core.la
libqed_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 \
	-Wl,--version-script=$(top_srcdir)/%D%/libqed/libqed.map
EXTRA_libqed_la_DEPENDENCIES = %D%/libqed/libqed.map
EXTRA_DIST += %D%/libqed/libqed.map

# --- qedimg -----------------------------------------------------------------

if HAVE_JSON_C
bin_PROGRAMS += %D%/qedimg/qedimg
endif
%C%_qedimg_qedimg_SOURCES = \
	%D%/prologue.h \
	%D%/qedimg/check.c \
	%D%/qedimg/commit.c \
	%D%/qedimg/common.c \
	%D%/qedimg/common.h \
	%D%/qedimg/compact.c \
	%D%/qedimg/compare.c \
	%D%/qedimg/convert.c \
	%D%/qedimg/copying.c \
	%D%/qedimg/copying.h \
	%D%/qedimg/create.c \
	%D%/qedimg/dd.c \
	%D%/qedimg/info.c \
	%D%/qedimg/list.c \
	%D%/qedimg/map.c \
	%D%/qedimg/measure.c \
	%D%/qedimg/outfile.c \
	%D%/qedimg/outfile.h \
	%D%/qedimg/picture.c \
	%D%/qedimg/picture.h \
	%D%/qedimg/preallocation.c \
	%D%/qedimg/preallocation.h \
	%D%/qedimg/progress.c \
	%D%/qedimg/progress.h \
	%D%/qedimg/qedimg.c \
	%D%/qedimg/qedimg.h \
	%D%/qedimg/rebase.c \
	%D%/qedimg/resize.c \
	%D%/qedimg/size.c \
	%D%/qedimg/size.h \
	%D%/qedimg/snapshot.c \
	%D%/qedimg/text.c
%C%_qedimg_qedimg_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS)
%C%_qedimg_qedimg_LDADD = libqed.la $(JSON_C_LIBS)
