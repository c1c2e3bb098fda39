/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage: explorer [--seed N] [--states N] [--run SEED] [--no-qemu]
 *
 * Runs workloads, makes states that a power cut could have left, and judges them.
 * Then it breaks the rules on purpose and must find that out.
 */
#include "config.h"

#include "explorer.h"
#include "../lib/scratch.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STATES_CI        2000
#define STATES_SANITIZED 300
#define STATES_TSAN      80
#define STATES_SOAK      100000
#define PER_RUN          60		/* states of one workload */
#define PER_RUN_TSAN     8
#define QEMU_SHARE       20		/* one state in so many */
#define CONTROL_RUNS     100
#define EXIT_SKIP        77

struct explorer {
	uint64_t seed;			/* all runs' */
	uint64_t run_seed;		/* this one's; given: the only one */
	bool only;
	unsigned states, per_run;
	bool qemu, controls;
	struct tally tally;
};

void die(const char *what)
{
	fprintf(stderr, "explorer: %s (%s)\n", what, strerror(errno));
	exit(1);
}

/* --- a run ------------------------------------------------------------------------- */

static struct setup random_setup(uint64_t seed, enum control control)
{
	struct rng rng = { rng_mix(seed) };
	static const uint32_t tables[] = { 1, 2, 2, 2, 4 };
	bool small = rng_chance(&rng, 60);
	struct setup setup = { .seed = seed, .control = control };

	setup.cluster = small ? 4096 : 65536;
	setup.table = small ? tables[rng_below(&rng, 5)] : 2;
	setup.backing = (enum backing)rng_below(&rng, BACKING_KINDS);
	setup.disk_size = (4 << 20) + rng_below(&rng, small ? 8192 : 16384) *
					      UINT64_C(512);
	setup.threads = rng_chance(&rng, 20);
	setup.nsessions = 1 + (unsigned)rng_below(&rng, 3);
	setup.nrequests = 20 + (unsigned)rng_below(&rng, 100);
	if (control != CONTROL_NONE)
		setup.threads = false;
	if (control == CONTROL_SWAPPED && setup.backing == BACKING_NONE)
		setup.backing = BACKING_RAW;
	return setup;
}

static const char *const backing_names[] = { "none", "raw", "qed", "chain" };

static void describe(const struct setup *setup)
{
	fprintf(stderr,
		"  --run %" PRIu64 ": cluster %" PRIu32 ", table %" PRIu32
		", backing %s, disk %" PRIu64 ", %u sessions of %u requests%s\n",
		setup->seed, setup->cluster, setup->table,
		backing_names[setup->backing], setup->disk_size,
		setup->nsessions, setup->nrequests,
		setup->threads ? ", real threads: may not repeat" : "");
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Half of them soon after tables or the header are written: there it matters. */
static uint64_t choose_cut(const struct history *history, struct rng *rng)
{
	const struct event *e;

	if (rng_chance(rng, 50) || !history->log.nevents)
		return 1 + rng_below(rng, history->end);
	do
		e = &history->log.events[rng_below(rng, history->log.nevents)];
	while (!e->metadata && rng_chance(rng, 95));
	return qed_min(e->completed + rng_below(rng, 8), history->end);
}

static void choose_cuts(const struct history *history, struct rng *rng,
			uint64_t *cuts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		cuts[i] = choose_cut(history, rng);
	qsort(cuts, n, sizeof(*cuts), by_value);
}

/* QEMU does not open images whose tables are one cluster. */
static bool qemu_wanted(const struct explorer *explorer,
			const struct setup *setup, struct rng *rng)
{
	return explorer->qemu && setup->table > 1 &&
	       rng_below(rng, QEMU_SHARE) == 0;
}

/* Judges states of one history: false, with a message, at the first bad one. */
static bool explore(struct explorer *explorer, const struct history *history,
		    char message[700])
{
	struct builder *builder = builder_create(&history->log);
	struct rng rng = { rng_mix(history->setup.seed + 1) };
	uint64_t cuts[PER_RUN];
	bool ok = true;

	choose_cuts(history, &rng, cuts, explorer->per_run);
	for (unsigned i = 0; i < explorer->per_run && ok; i++) {
		builder_make(builder, cuts[i], &rng, STATE);
		ok = verify_state(history, cuts[i], &rng,
				  qemu_wanted(explorer, &history->setup, &rng),
				  &explorer->tally, message);
	}
	builder_destroy(builder);
	return ok;
}

static bool run_one(struct explorer *explorer, const struct setup *setup,
		    char message[700])
{
	struct history history;
	bool ok = true;

	workload_run(setup, &history);
	history_damage(&history);
	if (*history.failure) {
		snprintf(message, 700, "%s", history.failure);
		ok = false;
	}
	ok = ok && explore(explorer, &history, message);
	history_free(&history);
	return ok;
}

static bool explore_all(struct explorer *explorer)
{
	struct rng rng = { explorer->seed };

	while (explorer->tally.states < explorer->states) {
		struct setup setup = random_setup(explorer->only ?
							  explorer->run_seed :
							  rng_next(&rng) >> 16,
						  CONTROL_NONE);
		char message[700];

		if (!run_one(explorer, &setup, message)) {
			fprintf(stderr, "VIOLATION: %s\n", message);
			describe(&setup);
			return false;
		}
		if (explorer->only)
			break;
	}
	return true;
}

/* --- controls ------------------------------------------------------------------------ */

/* The states it took to find the damage; 0 if it was not found. */
static unsigned find_damage(const struct explorer *explorer,
			    enum control control)
{
	struct explorer own = { .per_run = PER_RUN };
	struct rng rng = { rng_mix(explorer->seed + control) };
	char message[700];

	for (int i = 0; i < CONTROL_RUNS; i++) {
		struct setup setup = random_setup(rng_next(&rng) >> 16,
						  control);

		if (!run_one(&own, &setup, message)) {
			printf("  found: %s\n", message);
			return own.tally.states + 1;
		}
	}
	return 0;
}

static bool check_controls(const struct explorer *explorer)
{
	static const struct {
		enum control control;
		const char *what;
	} controls[] = {
		{ CONTROL_LOST_SYNC, "one sync in three is ignored" },
		{ CONTROL_SWAPPED, "tables are written before data" },
		{ CONTROL_REUSE, "freed clusters are reused at once" },
	};
	bool ok = true;

	for (size_t i = 0; i < sizeof(controls) / sizeof(*controls); i++) {
		unsigned n = find_damage(explorer, controls[i].control);

		printf("control: %s: %s after %u states\n", controls[i].what,
		       n ? "found" : "NOT FOUND", n);
		ok = ok && n;
	}
	return ok;
}

/* --- the program ----------------------------------------------------------------------- */

static bool have_qemu(void)
{
	return system("qemu-img --version >/dev/null 2>&1") == 0;
}

/* How much is done; the controls are no test of the library. */
static void set_defaults(struct explorer *explorer)
{
	explorer->qemu = explorer->controls = true;
	explorer->states = STATES_CI;
	explorer->per_run = PER_RUN;
	if (is_env("QED_SOAK", "1")) {
		explorer->states = STATES_SOAK;
	} else if (is_env("QED_SANITIZER", "thread")) {
		explorer->states = STATES_TSAN;
		explorer->per_run = PER_RUN_TSAN;
		explorer->controls = false;
	} else if (is_env("QED_SANITIZER", "address")) {
		explorer->states = STATES_SANITIZED;
	}
}

static void parse(struct explorer *explorer, int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "states", required_argument, NULL, 'n' },
		{ "run", required_argument, NULL, 'r' },
		{ "no-qemu", no_argument, NULL, 'q' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's') {
			explorer->seed = strtoull(optarg, NULL, 10);
		} else if (c == 'n') {
			explorer->states = (unsigned)strtoul(optarg, NULL, 10);
		} else if (c == 'r') {
			explorer->only = true;
			explorer->run_seed = strtoull(optarg, NULL, 10);
		} else if (c == 'q') {
			explorer->qemu = false;
		} else {
			fprintf(stderr, "usage: explorer [--seed N] "
					"[--states N] [--run SEED] "
					"[--no-qemu]\n");
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct explorer explorer = { .seed = (uint64_t)time(NULL) ^
					     (uint64_t)getpid() << 32 };
	bool missing;

	set_defaults(&explorer);
	parse(&explorer, argc, argv);
	missing = explorer.qemu && !have_qemu();
	explorer.qemu = explorer.qemu && !missing;
	printf("seed %" PRIu64 "\n", explorer.seed);
	fflush(stdout);
	if (scratch_enter("explorer") < 0)
		die(scratch_dir());
	if (!explore_all(&explorer))
		return 1;
	printf("%u states, %u of them unclean, %u used again, %u compared with "
	       "QEMU: no violation\n",
	       explorer.tally.states, explorer.tally.unclean,
	       explorer.tally.lives, explorer.tally.qemu);
	if (explorer.controls && !explorer.only && !check_controls(&explorer))
		return 1;
	if (missing)
		printf("skipped: qemu-img is not here to compare with\n");
	return missing ? EXIT_SKIP : 0;
}
