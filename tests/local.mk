# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tests/README says what the kinds of tests are and how to add one.

# --- unit tests: one program each, from unit-NAME.c ---------------------------

unit_programs = \
	%D%/unit/unit-async \
	%D%/unit/unit-behind \
	%D%/unit/unit-commit \
	%D%/unit/unit-compact \
	%D%/unit/unit-convert \
	%D%/unit/unit-create \
	%D%/unit/unit-direct \
	%D%/unit/unit-engine \
	%D%/unit/unit-fetch \
	%D%/unit/unit-format \
	%D%/unit/unit-lend \
	%D%/unit/unit-lock \
	%D%/unit/unit-overlay \
	%D%/unit/unit-pool \
	%D%/unit/unit-preallocation \
	%D%/unit/unit-scan \
	%D%/unit/unit-size \
	%D%/unit/unit-snapshot \
	%D%/unit/unit-spare \
	%D%/unit/unit-stats \
	%D%/unit/unit-syncs \
	%D%/unit/unit-transfer \
	%D%/unit/unit-used \
	%D%/unit/unit-util \
	%D%/unit/unit-writes

# The engine, and what else tests share: each program takes what it needs.
check_LIBRARIES = %D%/lib/libtest.a
%C%_lib_libtest_a_SOURCES = \
	%D%/lib/calls.c \
	%D%/lib/calls.h \
	%D%/lib/creating.c \
	%D%/lib/creating.h \
	%D%/lib/events.c \
	%D%/lib/events.h \
	%D%/lib/fake-engine.c \
	%D%/lib/fake-engine.h \
	%D%/lib/model.c \
	%D%/lib/model.h \
	%D%/lib/plain-engine.c \
	%D%/lib/plain-engine.h \
	%D%/lib/rng.h \
	%D%/lib/scratch.c \
	%D%/lib/scratch.h \
	%D%/lib/state.c \
	%D%/lib/walk.c \
	%D%/lib/walk.h

counted_sources = \
	%D%/lib/counted.c \
	%D%/lib/counted.h
%C%_unit_unit_syncs_SOURCES = %D%/unit/unit-syncs.c $(counted_sources)
%C%_unit_unit_writes_SOURCES = %D%/unit/unit-writes.c $(counted_sources)

# It counts what the library allocates.
%C%_unit_unit_spare_LDFLAGS = -Wl,--wrap=malloc -Wl,--wrap=calloc \
	-Wl,--wrap=realloc -Wl,--wrap=aligned_alloc -Wl,--wrap=posix_memalign

# It stands for a host that is reading.
%C%_unit_unit_lend_LDFLAGS = -Wl,--wrap=preadv64v2

# It stands for hosts that can do less.
%C%_unit_unit_snapshot_LDFLAGS = -Wl,--wrap=openat64 -Wl,--wrap=renameat2 \
	-Wl,--wrap=access -Wl,--wrap=linkat

# Of qedfs, not of the library; there may be no memory.
%C%_unit_unit_pool_SOURCES = \
	%D%/unit/unit-pool.c \
	fuse/pool.c \
	fuse/pool.h
%C%_unit_unit_pool_CFLAGS = $(AM_CFLAGS) $(FUSE_CFLAGS)
%C%_unit_unit_pool_LDFLAGS = -Wl,--wrap=posix_memalign

# Of qedimg, not of the library.
%C%_unit_unit_size_SOURCES = \
	%D%/unit/unit-size.c \
	src/qedimg/size.c \
	src/qedimg/size.h

if HAVE_CMOCKA
UNIT_TESTS = $(unit_programs)
else
UNIT_TESTS =
endif

# What an automake variable does not name otherwise: each program of the lists
# here is built from its namesake .c file, and linked with this.
LDADD = %D%/lib/libtest.a libqed-core.la $(CMOCKA_LIBS)

# --- the library against failing operations and power cuts ---------------------

library_ldadd = %D%/lib/libtest.a libqed-core.la
LIBRARY_TESTS = \
	%D%/crash/explorer \
	%D%/fault/test-fault
%C%_crash_explorer_SOURCES = \
	%D%/crash/explorer.c \
	%D%/crash/explorer.h \
	%D%/crash/files.c \
	%D%/crash/history.c \
	%D%/crash/verify.c \
	%D%/crash/workload.c
%C%_crash_explorer_LDADD = $(library_ldadd)
%C%_fault_test_fault_LDADD = $(library_ldadd)

# --- whole-image jobs against failing operations and power cuts ------------------

# One program each, from job-NAME.c.
job_programs = \
	%D%/jobs/job-commit \
	%D%/jobs/job-compact \
	%D%/jobs/job-rebase \
	%D%/jobs/job-resize
# Run by one thread here: nothing for ThreadSanitizer, under which job-check takes more
# than ten minutes (unit-scan and unit-fetch have its threads).
single_job_programs = \
	%D%/jobs/job-check \
	%D%/jobs/job-convert \
	%D%/jobs/job-create \
	%D%/jobs/job-snapshot

# What they have in common: the frame, with main().
check_LIBRARIES += %D%/jobs/libjobs.a
%C%_jobs_libjobs_a_SOURCES = \
	%D%/jobs/controls.c \
	%D%/jobs/cuts.c \
	%D%/jobs/deeds.c \
	%D%/jobs/deeds.h \
	%D%/jobs/disk.c \
	%D%/jobs/faults.c \
	%D%/jobs/frame.h \
	%D%/jobs/job.h \
	%D%/jobs/jobs.c \
	%D%/jobs/judge.c \
	%D%/jobs/made.c \
	%D%/jobs/scene.c \
	%D%/jobs/snapshot.c \
	%D%/jobs/trial.c
job_ldadd = %D%/jobs/libjobs.a $(library_ldadd)
# What deeds.c sees.
job_ldflags = $(AM_LDFLAGS) -Wl,--wrap=linkat -Wl,--wrap=renameat \
	-Wl,--wrap=renameat2 -Wl,--wrap=unlink -Wl,--wrap=fchmod -Wl,--wrap=fsync
%C%_jobs_job_check_LDADD = $(job_ldadd)
%C%_jobs_job_check_LDFLAGS = $(job_ldflags)
%C%_jobs_job_commit_LDADD = $(job_ldadd)
%C%_jobs_job_commit_LDFLAGS = $(job_ldflags)
%C%_jobs_job_compact_LDADD = $(job_ldadd)
%C%_jobs_job_compact_LDFLAGS = $(job_ldflags)
%C%_jobs_job_convert_LDADD = $(job_ldadd)
%C%_jobs_job_convert_LDFLAGS = $(job_ldflags)
%C%_jobs_job_create_LDADD = $(job_ldadd)
%C%_jobs_job_create_LDFLAGS = $(job_ldflags)
%C%_jobs_job_rebase_LDADD = $(job_ldadd)
%C%_jobs_job_rebase_LDFLAGS = $(job_ldflags)
%C%_jobs_job_resize_LDADD = $(job_ldadd)
%C%_jobs_job_resize_LDFLAGS = $(job_ldflags)
%C%_jobs_job_snapshot_LDADD = $(job_ldadd)
%C%_jobs_job_snapshot_LDFLAGS = $(job_ldflags)

LIBRARY_TESTS += $(job_programs)

# --- qedimg check on damaged images ------------------------------------------------

LIBRARY_TESTS += %D%/corrupt/corrupt
%C%_corrupt_corrupt_SOURCES = \
	%D%/corrupt/corrupt.c \
	%D%/corrupt/corrupt.h \
	%D%/corrupt/image.c \
	%D%/corrupt/oracle.c \
	%D%/corrupt/recipes.c \
	%D%/lib/rng.h \
	%D%/lib/scratch.c \
	%D%/lib/scratch.h
%C%_corrupt_corrupt_LDADD =

# --- system tests: real mounts, for root ---------------------------------------

# Those that take longest, in that order.
long_system_tests = \
	%D%/system/test-e2e.sh \
	%D%/system/test-geometry.sh \
	%D%/system/test-resize.sh \
	%D%/system/test-commit-image.sh \
	%D%/system/test-check-undo.sh \
	%D%/system/test-check.sh \
	%D%/system/test-convert.sh \
	%D%/system/test-rebase.sh \
	%D%/system/test-random.sh \
	%D%/system/test-kill.sh \
	%D%/system/test-compact.sh

short_system_tests = \
	%D%/system/test-chain.sh \
	%D%/system/test-commit.sh \
	%D%/system/test-compare.sh \
	%D%/system/test-completion.sh \
	%D%/system/test-convert-io.sh \
	%D%/system/test-create.sh \
	%D%/system/test-dd.sh \
	%D%/system/test-damaged.sh \
	%D%/system/test-descriptors.sh \
	%D%/system/test-direct.sh \
	%D%/system/test-discard.sh \
	%D%/system/test-failure.sh \
	%D%/system/test-file.sh \
	%D%/system/test-fstab.sh \
	%D%/system/test-hostile.sh \
	%D%/system/test-info.sh \
	%D%/system/test-large.sh \
	%D%/system/test-list.sh \
	%D%/system/test-locks.sh \
	%D%/system/test-malformed.sh \
	%D%/system/test-map.sh \
	%D%/system/test-measure.sh \
	%D%/system/test-memcg.sh \
	%D%/system/test-memory.sh \
	%D%/system/test-mount.sh \
	%D%/system/test-need-check.sh \
	%D%/system/test-options.sh \
	%D%/system/test-progress.sh \
	%D%/system/test-qedimg.sh \
	%D%/system/test-qedimg-geometry.sh \
	%D%/system/test-snapshot.sh \
	%D%/system/test-splice.sh \
	%D%/system/test-stats.sh \
	%D%/system/test-unmount.sh \
	%D%/system/test-uring.sh

system_tests = $(long_system_tests) $(short_system_tests)
SYSTEM_TESTS = $(system_tests)

# Programs that system tests use.  Of the project they need nothing, and they start
# too often for a sanitizer.
system_programs = \
	%D%/images/mkimage \
	%D%/system/fileop \
	%D%/system/garbage \
	%D%/system/leaks \
	%D%/system/ledger \
	%D%/system/logsink \
	%D%/system/measure \
	%D%/system/randomio \
	%D%/system/readat \
	%D%/system/waitfor
$(system_programs): SANITIZER_FLAGS =
%C%_images_mkimage_LDADD =
%C%_system_fileop_LDADD =
%C%_system_garbage_LDADD =
%C%_system_leaks_LDADD =
%C%_system_ledger_LDADD =
%C%_system_logsink_LDADD =
%C%_system_measure_LDADD =
%C%_system_randomio_LDADD =
%C%_system_readat_LDADD =
%C%_system_waitfor_LDADD =

EXTRA_DIST += \
	$(system_tests) \
	%D%/README \
	%D%/README.system \
	%D%/system/functions.sh \
	%D%/system/mounts.sh

# --- images as text ------------------------------------------------------------

include %D%/images/local.mk

# --- running them ---------------------------------------------------------------

# The tests that must also be clean under ThreadSanitizer.
TSAN_TESTS = $(UNIT_TESTS) %D%/system/test-random.sh $(LIBRARY_TESTS)

check_PROGRAMS += $(UNIT_TESTS) $(LIBRARY_TESTS) $(single_job_programs) \
	$(system_programs)

# make -j starts them in this order: the longest first, so that none is left alone
# at the end.
TESTS += $(long_system_tests) $(LIBRARY_TESTS) $(single_job_programs) \
	$(short_system_tests) $(UNIT_TESTS)
TEST_EXTENSIONS = .sh

# Libtool makes scripts of the programs' names, which take ten times as long to start as
# the programs themselves, in .libs; those have to be told where the library is.
AM_TESTS_ENVIRONMENT = \
	TOP_BUILDDIR='$(abs_top_builddir)'; export TOP_BUILDDIR; \
	TOP_SRCDIR='$(abs_top_srcdir)'; export TOP_SRCDIR; \
	QED_SANITIZER='$(enable_sanitizer)'; export QED_SANITIZER; \
	PATH='$(abs_top_builddir)/fuse:$(abs_top_builddir)/src/qedimg':"$$PATH"; \
	PATH='$(abs_top_builddir)/fuse/.libs:$(abs_top_builddir)/src/qedimg/.libs':"$$PATH"; \
	LD_LIBRARY_PATH='$(abs_top_builddir)/.libs'"$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"; \
	export PATH LD_LIBRARY_PATH;
LOG_COMPILER = $(SHELL) $(top_srcdir)/scripts/run-test
SH_LOG_COMPILER = $(SHELL) $(top_srcdir)/scripts/run-test $(TEST_SHELL)

.PHONY: check-unit check-system check-tsan check-valgrind distcheck-unit soak

# TESTS itself is what counts: automake copies the programs' names out of the other
# lists, so that setting one of those to nothing does nothing.
check-unit:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(UNIT_TESTS)'

check-system:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(SYSTEM_TESTS)'

# For a tree configured with --enable-sanitizer=thread.
check-tsan:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(TSAN_TESTS)'

# The tarball builds, installs and passes the tests that any user can run.
distcheck-unit:
	$(MAKE) $(AM_MAKEFLAGS) distcheck TESTS='$(UNIT_TESTS)'

check-valgrind:
	QED_TEST_WRAPPER='valgrind -q --leak-check=full --error-exitcode=99' \
	$(MAKE) $(AM_MAKEFLAGS) check-unit

# The tests that scale do their long runs.
soak:
	QED_SOAK=1 TEST_TIMEOUT=0 $(MAKE) $(AM_MAKEFLAGS) check

# --- fuzzing ----------------------------------------------------------------------

# Programs with an LLVMFuzzerTestOneInput(), each with
# "_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer".
fuzz_programs =

EXTRA_PROGRAMS = $(fuzz_programs)

.PHONY: fuzz

# Each for FUZZ_SECONDS; what it finds and learns stays in fuzz-corpus/.
FUZZ_SECONDS = 60
fuzz: $(fuzz_programs)
	@test -n '$(fuzz_programs)' || { \
		echo 'tests/local.mk lists no fuzzer' >&2; exit 1; }
	@case '$(enable_sanitizer)' in *fuzzer-no-link*) ;; *) \
		echo 'configure with CC=clang and' \
		'--enable-sanitizer=address,undefined,fuzzer-no-link' >&2; \
		exit 1 ;; esac
	@$(AM_TESTS_ENVIRONMENT) \
	for program in $(fuzz_programs); do \
		corpus=fuzz-corpus/$${program##*/}; \
		$(MKDIR_P) "$$corpus" || exit; \
		"./$$program" -max_total_time=$(FUZZ_SECONDS) \
			-artifact_prefix="$$corpus-" "$$corpus" || exit; \
	done
