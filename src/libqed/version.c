/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "qed.h"

const char *qed_version(void)
{
	return PACKAGE_VERSION;
}
