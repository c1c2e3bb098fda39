# SPDX-License-Identifier: LGPL-2.1-or-later

# Scripts that measure, run one after the other with the environment that tests
# have.  Each prints its own table.
bench_scripts =

EXTRA_DIST += $(bench_scripts)

.PHONY: bench
bench: all
	@test -n '$(bench_scripts)' || { \
		echo 'bench/local.mk lists no benchmark' >&2; exit 1; }
	@$(AM_TESTS_ENVIRONMENT) \
	for script in $(bench_scripts); do \
		$(SHELL) $(top_srcdir)/$$script || exit; \
	done
