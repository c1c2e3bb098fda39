/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How whole-image jobs report progress and learn that they are to stop. */
#ifndef QED_JOB_H
#define QED_JOB_H

#include "qed.h"

#include <errno.h>

/*
 * A step of a job, null for none, is over and everything is consistent: 0, or
 * -ECANCELED if it is to end here.
 */
static inline int qed_job_step(const struct qed_job *job, uint64_t done,
			       uint64_t total)
{
	if (job && job->progress)
		job->progress(job->opaque, done, total);
	return job && job->cancelled && job->cancelled(job->opaque) ?
		       -ECANCELED :
		       0;
}

#endif
