/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preallocation.h"
#include "qedimg.h"

#include <errno.h>
#include <string.h>

static const char *const names[] = {
	[QED_PREALLOCATION_OFF] = "off",
	[QED_PREALLOCATION_METADATA] = "metadata",
	[QED_PREALLOCATION_FALLOC] = "falloc",
	[QED_PREALLOCATION_FULL] = "full",
};

int qedimg_read_preallocation(const char *file, const char *text,
			      enum qed_preallocation *preallocation)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*preallocation = (enum qed_preallocation)i;
		return 0;
	}
	qedimg_error(file, "preallocation '%s' is not supported, only off,"
		     " metadata, falloc and full", text);
	return -EINVAL;
}
