/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of faults, and of what is done about them. */
#include "config.h"

#include "qed.h"

static const char *const kind_names[QED_FAULT_KINDS] = {
	[QED_FAULT_RESERVED_BITS] = "reserved-bits",
	[QED_FAULT_UNALIGNED] = "unaligned",
	[QED_FAULT_PAST_END] = "past-end",
	[QED_FAULT_IN_HEADER] = "in-header",
	[QED_FAULT_IN_L1_TABLE] = "in-l1-table",
	[QED_FAULT_IN_L2_TABLE] = "in-l2-table",
	[QED_FAULT_SHARED] = "shared",
	[QED_FAULT_LEAK] = "leak",
};

static const char *const action_names[QED_ACTION_KINDS] = {
	[QED_ACTION_NONE] = "none",
	[QED_ACTION_DROP] = "drop",
	[QED_ACTION_COPY] = "copy",
	[QED_ACTION_EXTEND] = "extend",
	[QED_ACTION_TRUNCATE] = "truncate",
	[QED_ACTION_PUNCH] = "punch",
};

const char *qed_fault_kind_name(enum qed_fault_kind kind)
{
	return (unsigned)kind < QED_FAULT_KINDS ? kind_names[kind] : "unknown";
}

const char *qed_fault_action_name(enum qed_fault_action action)
{
	return (unsigned)action < QED_ACTION_KINDS ? action_names[action] :
						     "unknown";
}
