/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads that copy nothing: the caller is told where the bytes are.  As with
 * every read, clusters that it has seen are not used again before it is over.
 * What is counted is what the caller says it read: FUSE's bytes go by a pipe of
 * libfuse's, which does not tell how many came, so it is those it was asked for.
 */
#include "config.h"

#include "probe.h"
#include "request.h"
#include "source.h"

/* The last part goes on, or there is a further one: false if there is no room. */
static bool add_part(struct qed_loan *loan, const struct qed_source *from)
{
	struct qed_loan_part *part = &loan->parts[loan->nparts];

	if (loan->nparts > 0 && part[-1].fd == from->file->fd &&
	    part[-1].offset + part[-1].len == from->file_off) {
		part[-1].len += from->len;
		return true;
	}
	if (loan->nparts == QED_LOAN_PARTS)
		return false;
	*part = (struct qed_loan_part){ .fd = from->file->fd,
					.offset = from->file_off,
					.len = from->len };
	loan->nparts++;
	return true;
}

static bool find_parts(struct qed_image *image, uint64_t offset, uint64_t len,
		       struct qed_loan *loan)
{
	struct qed_source from;

	for (uint64_t pos = 0; pos < len; pos += from.len) {
		uint64_t span = len - pos;

		if (qed_source_peek(image, offset + pos, &span, &from) ||
		    !from.file ||
		    !qed_file_is_cached(from.file, from.file_off, from.len) ||
		    !add_part(loan, &from))
			return false;
	}
	return true;
}

/*
 * A read that is not lent is done the other way, which counts its look-ups; so
 * those of one that is lent are counted, and probed, when that is certain.
 */
static void count(struct qed_image *image, uint64_t offset, uint64_t len)
{
	struct qed_source from;

	for (uint64_t pos = 0; pos < len; pos += from.len) {
		uint64_t span = len - pos;
		unsigned layer = 0;

		if (qed_source_find(image, offset + pos, &layer, &span, NULL,
				    &from))
			return;
	}
}

bool qed_lend(struct qed_image *image, uint64_t offset, uint64_t len,
	      struct qed_loan *loan)
{
	loan->nparts = 0;
	if (offset > image->size || len > image->size - offset)
		return false;
	loan->token = qed_request_enter(image);
	if (!find_parts(image, offset, len, loan)) {
		qed_request_leave(image, loan->token);
		return false;
	}
	QED_PROBE4(request_start, loan, QED_REQUEST_READ, offset, len);
	count(image, offset, len);
	return true;
}

static void nothing_more(void *opaque, int64_t result)
{
	(void)opaque;
	(void)result;
}

void qed_lend_end(struct qed_image *image, const struct qed_loan *loan,
		  int64_t result)
{
	qed_request_leave(image, loan->token);
	qed_request_end(image, QED_REQUEST_READ, result, nothing_more,
			(void *)(uintptr_t)loan);
}
