# SPDX-License-Identifier: LGPL-2.1-or-later

bin_PROGRAMS += %D%/qedfs
%C%_qedfs_SOURCES = \
	src/prologue.h \
	%D%/disk.c \
	%D%/disk.h \
	%D%/features.c \
	%D%/features.h \
	%D%/handshake.c \
	%D%/handshake.h \
	%D%/io.c \
	%D%/io.h \
	%D%/log.c \
	%D%/log.h \
	%D%/lowlevel.h \
	%D%/ops.c \
	%D%/ops.h \
	%D%/options.c \
	%D%/options.h \
	%D%/overrun.c \
	%D%/overrun.h \
	%D%/place.c \
	%D%/place.h \
	%D%/pool.c \
	%D%/pool.h \
	%D%/qedfs.c \
	%D%/seek.c \
	%D%/seek.h \
	%D%/session.c \
	%D%/session.h \
	%D%/signals.c \
	%D%/signals.h \
	%D%/start.c \
	%D%/start.h \
	%D%/stats.c \
	%D%/stats.h \
	%D%/syncer.c \
	%D%/syncer.h \
	%D%/tree.c \
	%D%/tree.h
%C%_qedfs_CFLAGS = $(AM_CFLAGS) $(FUSE_CFLAGS)
%C%_qedfs_LDADD = libqed.la $(FUSE_LIBS)
