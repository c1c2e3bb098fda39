/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How every request ends. */
#include "config.h"

#include "probe.h"
#include "request.h"

void qed_request_end(struct qed_image *image, enum qed_request_kind kind,
		     int64_t result,
		     void (*done)(void *opaque, int64_t result), void *opaque)
{
	qed_count_request(&image->counters, kind, result);
	QED_PROBE3(request_end, opaque, kind, result);
	done(opaque, result);
}
