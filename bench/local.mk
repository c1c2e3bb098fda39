# SPDX-License-Identifier: LGPL-2.1-or-later

# The yardstick: the least that a FUSE daemon can do.
bench_programs = %D%/floor
check_PROGRAMS += $(bench_programs)
%C%_floor_CFLAGS = $(AM_CFLAGS) $(FUSE_CFLAGS)
%C%_floor_LDADD = $(FUSE_LIBS)

EXTRA_DIST += \
	%D%/README \
	%D%/RESULTS.md \
	%D%/bench \
	%D%/datasets.py \
	%D%/report.py \
	%D%/servers.py \
	%D%/workloads.py

# What bench/bench is given; --help lists its options.
BENCH_OPTIONS =

.PHONY: bench
bench: all $(bench_programs)
	@$(AM_TESTS_ENVIRONMENT) \
	$(top_srcdir)/bench/bench $(BENCH_OPTIONS)
