/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How whole-image jobs report progress and learn that they are to stop. */
#ifndef QED_JOB_H
#define QED_JOB_H

#include "qed.h"

#include <errno.h>
#include <stddef.h>

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

/*
 * For a part of a job whose progress would be in other bytes: it can be cancelled
 * alone.  `job` may be null.
 */
static inline struct qed_job qed_job_quiet(const struct qed_job *job)
{
	return (struct qed_job){ .cancelled = job ? job->cancelled : NULL,
				 .opaque = job ? job->opaque : NULL };
}

#endif
