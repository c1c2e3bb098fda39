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
	%D%/chart.py \
	%D%/chart.svg \
	%D%/command.py \
	%D%/curves.py \
	%D%/datasets.py \
	%D%/fio.py \
	%D%/growth \
	%D%/install.py \
	%D%/memory.py \
	%D%/ratio.py \
	%D%/replay.py \
	%D%/report.py \
	%D%/rows.py \
	%D%/runner.py \
	%D%/servers.py \
	%D%/session.py \
	%D%/sparse.py \
	%D%/table.py \
	%D%/tools \
	%D%/workloads.py

# What bench/bench, bench/growth and bench/tools are given; --help lists their options.
BENCH_OPTIONS =
GROWTH_OPTIONS =
TOOLS_OPTIONS =

# Tables on standard output; the rest into these, and a chart.
bench_result = %D%/result.json
growth_result = %D%/result-growth.json
tools_result = %D%/result-tools.json
CLEANFILES = $(bench_result) $(growth_result) $(tools_result) %D%/result.svg

.PHONY: bench bench-growth bench-tools
bench: all $(bench_programs)
	@$(AM_TESTS_ENVIRONMENT) \
	$(top_srcdir)/bench/bench --json $(bench_result) $(BENCH_OPTIONS)

bench-growth: all $(bench_programs)
	@$(AM_TESTS_ENVIRONMENT) \
	$(top_srcdir)/bench/growth --json $(growth_result) $(GROWTH_OPTIONS)

bench-tools: all tests/system/measure
	@$(AM_TESTS_ENVIRONMENT) \
	$(top_srcdir)/bench/tools --json $(tools_result) $(TOOLS_OPTIONS)
