/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is what a job left right? */
#include "config.h"

#include "frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static bool is_raw(const struct job_disk *disk)
{
	return strstr(disk->path, ".raw");
}

static const struct job_disk *disk_of(const struct subject *subject, unsigned i)
{
	return &subject->scene->job->disks[i];
}

/* Puts the file's name before the message. */
static bool blame(const struct job_disk *disk, char message[700])
{
	char text[700];

	snprintf(text, sizeof(text), "%s", message);
	return wrong(message, "%s: %.600s", disk->path, text);
}

/* Read by other code than the library's. */
static bool structure_ok(const struct job_disk *disk, bool may_be_unclean,
			 bool *unclean, char message[700])
{
	struct walk *walk = walk_open(disk->path);
	bool need_check = walk->features & WALK_NEED_CHECK, ok = true;

	*unclean = need_check && walk->errors;
	if (need_check && !may_be_unclean)
		ok = wrong(message, "%s: NEED_CHECK is set", disk->path);
	else if (!need_check && walk->errors)
		ok = wrong(message, "%s: it says that it is clean, but %s",
			   disk->path, walk->message);
	walk_close(walk);
	return ok;
}

/* On a copy, since it may repair what asks for that. */
static bool qemu_ok(const struct job_disk *disk, char message[700])
{
	char command[300];
	int status;

	snprintf(command, sizeof(command),
		 "cp --sparse=always %s .qemu.qed && "
		 "qemu-img check -q -r all -f qed .qemu.qed >.qemu.log 2>&1",
		 disk->path);
	status = system(command);
	/* 3: only leaks */
	if (!WIFEXITED(status) ||
	    (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 3))
		return wrong(message, "%s: qemu-img check fails", disk->path);
	return true;
}

static bool content_ok(const struct subject *subject, unsigned i, bool writable,
		       bool end, char message[700])
{
	const struct job_disk *disk = disk_of(subject, i);
	struct disk now = { .size = 0 };
	bool ok = disk_read(&now, disk->path, writable, message);

	if (ok && end)
		ok = disk_same(&now, &subject->after[i],
			       &subject->before[i], message);
	else if (ok)
		ok = disk_allowed(&now, &subject->before[i], &subject->after[i],
				  disk->rule, message);
	disk_free(&now);
	return ok || blame(disk, message);
}

static bool disk_midway_ok(const struct subject *subject, unsigned i, bool qemu,
			   bool *mended, char message[700])
{
	const struct job_disk *disk = disk_of(subject, i);
	bool damaged = subject->scene->job->flags & JOB_STARTS_DAMAGED;
	bool unclean = false;

	if (!is_raw(disk) && !damaged) {
		if (!structure_ok(disk, true, &unclean, message))
			return false;
		if (qemu && !qemu_ok(disk, message))
			return false;
	}
	*mended = *mended || unclean;
	return content_ok(subject, i, unclean, false, message);
}

bool judge_end(const struct subject *subject, bool qemu, char message[700])
{
	const struct job *job = subject->scene->job;
	bool damaged = job->flags & JOB_ENDS_DAMAGED, unclean;

	for (unsigned i = 0; i < subject->ndisks; i++) {
		const struct job_disk *disk = disk_of(subject, i);

		if (!is_raw(disk) && !damaged &&
		    (!structure_ok(disk, false, &unclean, message) ||
		     (qemu && !qemu_ok(disk, message))))
			return false;
		if (!content_ok(subject, i, false, true, message))
			return false;
	}
	return !job->finished || job->finished(subject->scene, message);
}

bool judge_midway(const struct subject *subject, bool again, bool qemu,
		  struct tally *tally, char message[700])
{
	struct snapshot files = { .n = 0 };
	bool ok = true, mended = false;

	if (again)
		snapshot_take(&files);
	for (unsigned i = 0; i < subject->ndisks && ok; i++)
		ok = disk_midway_ok(subject, i, qemu, &mended, message);
	if (ok && subject->scene->job->midway)
		ok = subject->scene->job->midway(subject->scene, message);
	/* The job is to find the files as they were. */
	if (ok && again && mended)
		snapshot_restore(&files);
	snapshot_free(&files);
	if (ok && again)
		ok = trial_again(subject, message) &&
		     judge_end(subject, qemu, message);
	tally->unclean += mended;
	tally->again += again;
	tally->qemu += qemu;
	return ok;
}
