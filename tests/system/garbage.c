/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *	garbage FILE OFFSET COUNT random ALIGN LIMIT
 *	garbage FILE OFFSET COUNT row STEP FIRST
 *
 * Writes COUNT little-endian 64-bit numbers into a file, from OFFSET on: random
 * multiples of ALIGN below LIMIT (0: any number), the same for each OFFSET; or FIRST and
 * what follows by STEPs.
 */
#include "config.h"

#include "../lib/rng.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 8192

struct numbers {
	bool random;
	uint64_t step, base;		/* ALIGN and LIMIT, or STEP and FIRST */
	struct rng rng;
};

static uint64_t next(struct numbers *numbers)
{
	uint64_t number = numbers->base;

	if (!numbers->random) {
		numbers->base += numbers->step;
		return number;
	}
	if (!numbers->base)
		return rng_next(&numbers->rng);
	return rng_below(&numbers->rng, numbers->base / numbers->step) *
	       numbers->step;
}

static int write_all(int fd, uint64_t offset, uint64_t count,
		     struct numbers *numbers)
{
	static uint64_t batch[BATCH];

	while (count) {
		uint64_t n = count < BATCH ? count : BATCH;

		for (uint64_t i = 0; i < n; i++)
			batch[i] = htole64(next(numbers));
		if (pwrite(fd, batch, n * sizeof(*batch), (off_t)offset) !=
		    (ssize_t)(n * sizeof(*batch)))
			return -1;
		offset += n * sizeof(*batch);
		count -= n;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct numbers numbers = { .random = false };
	int fd;

	if (argc != 7) {
		fprintf(stderr, "usage: garbage FILE OFFSET COUNT "
				"random ALIGN LIMIT | row STEP FIRST\n");
		return 2;
	}
	numbers.random = strcmp(argv[4], "random") == 0;
	numbers.rng.state = strtoull(argv[2], NULL, 0);
	numbers.step = strtoull(argv[5], NULL, 0);
	numbers.base = strtoull(argv[6], NULL, 0);
	fd = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write_all(fd, strtoull(argv[2], NULL, 0),
				strtoull(argv[3], NULL, 0), &numbers) < 0) {
		perror(argv[1]);
		return 1;
	}
	return close(fd) < 0;
}
