/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What jobs do to names and permissions, which no engine sees: the linker's --wrap
 * passes these calls through here, where they are recorded, or fail.  Of one thread,
 * the one that runs the job.
 */
#ifndef DEEDS_H
#define DEEDS_H

#include "../lib/fake-engine.h"

enum deed_kind {
	DEED_NAME,			/* a file gets a name */
	DEED_UNNAME,			/* a name is removed */
	DEED_MODE,			/* a file gets other permissions */
	DEED_SYNC,			/* of a directory, or of a file's mode */
};

struct deed {
	enum deed_kind kind;
	char name[100];			/* the file's; "" a directory */
	mode_t mode;
	uint64_t begun, ended;		/* fake_tick() */
	bool done;			/* it did not fail */
};

/*
 * From now on deeds are recorded with the fake's time; the n-th one fails with EIO,
 * none if `fail` is 0.  A new beginning forgets what was recorded.
 */
void deeds_begin(struct fake *fake, unsigned fail);
void deeds_end(void);

/* The recorded ones; or those that there are. */
unsigned deeds_count(void);
const struct deed *deeds_get(unsigned i);

#endif
