/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qedimg check: finds and mends what is wrong with an image, with qemu-img's
 * arguments, keys and exit status.  Faults are printed as they are found: a
 * hostile image may have millions of them.
 */
#include "config.h"

#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

enum {
	EXIT_CLEAN = 0,
	EXIT_FAILED = 1,
	EXIT_CORRUPT = 2,
	EXIT_LEAKS = 3,
	EXIT_UNSUPPORTED = 63,
};

struct check_request {
	const char *file;
	struct qedimg_common common;
	const char *repair;
	bool chain;
	bool dry_run;
	bool undo;
	bool json;			/* to be printed: -q wins over --output */
};

/* The check of one image. */
struct run {
	const struct check_request *request;
	const char *file;
	uint64_t nfaults;		/* printed */
	bool foreign;			/* it is no QED image */
};

/* A name as a JSON string. */
static void put_json_name(const char *name)
{
	char *text = qedimg_utf8(name);
	struct json_object *string = text ? json_object_new_string(text) : NULL;

	fputs(string ? json_object_to_json_string_ext(
			       string, JSON_C_TO_STRING_NOSLASHESCAPE) :
		       "null",
	      stdout);
	json_object_put(string);
	free(text);
}

static void put_fault_json(struct run *run, const struct qed_fault *fault)
{
	printf("%s\n        { \"kind\": \"%s\", \"action\": \"%s\"",
	       run->nfaults ? "," : "", qed_fault_kind_name(fault->kind),
	       qed_fault_action_name(fault->action));
	if (fault->level)
		printf(", \"table\": %u, \"table-offset\": %" PRIu64
		       ", \"entry\": %" PRIu64,
		       fault->level, fault->file_off, fault->entry);
	else
		printf(", \"offset\": %" PRIu64, fault->file_off);
	/* Past the end of the disk there is no such place. */
	if (fault->level && fault->len)
		printf(", \"start\": %" PRIu64, fault->disk_off);
	printf(", \"length\": %" PRIu64 ", \"count\": %" PRIu64 " }",
	       fault->len, fault->count);
}

static void put_fault_human(const struct run *run,
			    const struct qed_fault *fault)
{
	if (run->request->repair && fault->action != QED_ACTION_NONE)
		printf("%s %s: ",
		       run->request->dry_run ? "Would" : "Repair,",
		       qed_fault_action_name(fault->action));
	if (!fault->level) {
		printf("leak: %" PRIu64 " clusters, file offset %" PRIu64
		       ", length %" PRIu64 "\n",
		       fault->count, fault->file_off, fault->len);
		return;
	}
	printf("%s: L%u entry %#" PRIx64 " at file offset %" PRIu64,
	       qed_fault_kind_name(fault->kind), fault->level, fault->entry,
	       fault->file_off);
	if (fault->count > 1)
		printf(" and %" PRIu64 " behind it", fault->count - 1);
	if (fault->len)
		printf(", disk offset %" PRIu64 ", length %" PRIu64 "\n",
		       fault->disk_off, fault->len);
	else
		puts(", past the end of the disk");
}

static void put_fault(void *opaque, const struct qed_fault *fault)
{
	struct run *run = opaque;

	if (run->request->json)
		put_fault_json(run, fault);
	else if (!run->request->common.quiet)
		put_fault_human(run, fault);
	run->nfaults++;
}

static void put_count(const char *key, uint64_t value)
{
	printf(",\n    \"%s\": %" PRIu64, key, value);
}

/* Keys that qemu-img leaves out when they are zero are left out here too. */
static void put_nonzero(const char *key, uint64_t value)
{
	if (value)
		put_count(key, value);
}

static void put_report_json(const struct run *run,
			    const struct qed_check_report *r)
{
	printf("%s],\n    \"filename\": ", run->nfaults ? "\n    " : "");
	put_json_name(run->file);
	if (!run->foreign)
		printf(",\n    \"format\": \"qed\"");
	put_count("check-errors", r->check_errors);
	put_nonzero("corruptions", r->corruptions);
	put_nonzero("corruptions-fixed", r->corruptions_fixed);
	put_nonzero("leaks", r->leaks);
	put_nonzero("leaks-empty", r->empty_leaks);
	put_nonzero("leaks-fixed", r->leaks_fixed);
	put_count("total-clusters", r->total_clusters);
	put_count("allocated-clusters", r->allocated_clusters);
	put_nonzero("fragmented-clusters", r->fragmented_clusters);
	put_nonzero("image-end-offset", r->image_end_offset);
	printf(",\n    \"need-check\": %s,\n    \"undo-saved\": %s\n}",
	       r->need_check ? "true" : "false",
	       r->undo_saved ? "true" : "false");
}

static void put_allocation(const struct qed_check_report *r)
{
	if (!r->total_clusters || !r->allocated_clusters)
		return;
	printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% "
	       "fragmented, 0.00%% compressed clusters\n",
	       r->allocated_clusters, r->total_clusters,
	       100.0 * (double)r->allocated_clusters /
		       (double)r->total_clusters,
	       100.0 * (double)r->fragmented_clusters /
		       (double)r->allocated_clusters);
}

static void put_leaks(const struct qed_check_report *r)
{
	if (r->leaks > r->empty_leaks)
		printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to data.\n",
		       r->leaks);
	else if (r->leaks)
		printf("%" PRIu64 " leaked clusters take up no space.\n",
		       r->leaks);
}

static void put_report_human(const struct qed_check_report *r)
{
	if (r->leaks_fixed || r->corruptions_fixed)
		printf("The following inconsistencies were found and repaired:"
		       "\n\n    %" PRIu64 " leaked clusters\n    %" PRIu64
		       " corruptions\n\n",
		       r->leaks_fixed, r->corruptions_fixed);
	if (r->corruptions)
		printf("\n%" PRIu64 " errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image "
		       "may corrupt it.\n",
		       r->corruptions);
	put_leaks(r);
	if (r->check_errors)
		printf("\n%" PRIu64 " internal errors have occurred during the"
		       " check.\n", r->check_errors);
	if (!r->corruptions && r->leaks == r->empty_leaks && !r->check_errors)
		puts("No errors were found on the image.");
	put_allocation(r);
	if (r->image_end_offset)
		printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
	if (r->need_check)
		puts("It was not closed properly and still says so: "
		     "'-r leaks' or '-r all' clears that.");
}

static int status_of(const struct qed_check_report *r)
{
	if (r->check_errors)
		return EXIT_FAILED;
	if (r->corruptions)
		return EXIT_CORRUPT;
	return r->leaks > r->empty_leaks ? EXIT_LEAKS : EXIT_CLEAN;
}

static uint32_t flags_of(const struct check_request *request)
{
	uint32_t flags = 0;

	if (request->repair)
		flags |= strcmp(request->repair, "all") == 0 ?
				 QED_CHECK_ALL : QED_CHECK_LEAKS;
	if (request->dry_run)
		flags |= QED_CHECK_DRY_RUN;
	if (request->common.force_share)
		flags |= QED_CHECK_FORCE_SHARE;
	return flags;
}

static void put_undo_hint(const struct run *run,
			  const struct qed_check_report *report)
{
	if (!report->undo_saved || run->request->json || run->request->common.quiet)
		return;
	fputs("What was changed is in ", stdout);
	qedimg_put(stdout, run->file);
	puts(".check-undo; --undo takes it back.");
}

/* Of two: the one that is worse to hear. */
static int worse(int a, int b)
{
	static const int order[] = { EXIT_FAILED, EXIT_UNSUPPORTED,
				     EXIT_CORRUPT, EXIT_LEAKS };

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return EXIT_CLEAN;
}

static int failure_status(const struct check_request *request, int err)
{
	return err == -EMEDIUMTYPE && !request->common.format ?
		       EXIT_UNSUPPORTED : EXIT_FAILED;
}

/*
 * Checks one file, and makes of *status the worse of it and this one's: 0, or
 * -errno after a message if there was no check, or not to its end.
 */
static int check_file(const struct check_request *request, const char *file,
		      int *status)
{
	struct run run = { .request = request, .file = file };
	struct qed_check_options options = {
		.flags = flags_of(request),
		.log = qedimg_log,
		.fault = put_fault,
		.opaque = &run,
	};
	struct qed_check_report report;
	int ret;

	if (request->json)
		fputs("{\n    \"faults\": [", stdout);
	options.job = qedimg_common_job(&request->common);
	ret = qed_image_check(file, &options, &report);
	qedimg_progress_end();
	run.foreign = ret == -EMEDIUMTYPE;
	if (ret < 0 && !report.check_errors)
		report.check_errors = 1;
	if (request->json)
		put_report_json(&run, &report);
	else if (ret == 0 && !request->common.quiet)
		put_report_human(&report);
	put_undo_hint(&run, &report);
	*status = worse(*status, ret < 0 ? failure_status(request, ret) :
					   status_of(&report));
	return ret;
}

static void begin_layer(const struct check_request *request, const char *file,
			bool first)
{
	if (request->json) {
		fputs(first ? "[\n" : ",\n", stdout);
	} else if (!request->common.quiet) {
		fputs(first ? "image: " : "\nimage: ", stdout);
		qedimg_put(stdout, file);
		putchar('\n');
	}
}

/* What there is to warn of, the check of each file says itself. */
static int open_unwarned(const struct check_request *request, const char *file,
			 uint32_t flags, struct qed_image **image)
{
	struct qed_open_options options;

	qed_open_options_init(&options);
	options.flags |= flags;
	if (request->common.force_share)
		options.flags |= QED_OPEN_FORCE_SHARE;
	options.log = qedimg_error_log;
	return qed_image_open(file, &options, image);
}

/*
 * The file behind `file`, to be freed, or null at the end of the chain or if
 * that is raw, which has nothing to check.
 */
static char *next_layer(const struct check_request *request, const char *file)
{
	struct qed_image_info info;
	struct qed_image *image;
	char *next = NULL;

	if (open_unwarned(request, file, QED_OPEN_NO_BACKING, &image) < 0)
		return NULL;
	qed_image_get_info(image, &info);
	if (info.backing_path &&
	    !(info.features & QED_FEATURE_BACKING_FORMAT_NO_PROBE))
		next = strdup(info.backing_path);
	qed_image_close(image);
	return next;
}

/*
 * The images behind the one of the request.  Opening the whole chain first finds
 * loops and files that are missing: then none of them is checked.
 */
static int check_behind(const struct check_request *request, int status)
{
	struct qed_image *image;
	char *file, *next;
	int ret;

	if (open_unwarned(request, request->file, 0, &image) < 0)
		return EXIT_FAILED;
	qed_image_close(image);
	for (file = next_layer(request, request->file); file; file = next) {
		begin_layer(request, file, false);
		ret = check_file(request, file, &status);
		next = ret == -ECANCELED ? NULL : next_layer(request, file);
		free(file);
	}
	return status;
}

static int check_chain(const struct check_request *request)
{
	int status = EXIT_CLEAN;

	begin_layer(request, request->file, true);
	/* What could not be checked names nothing that can be trusted. */
	if (check_file(request, request->file, &status) == 0)
		status = check_behind(request, status);
	if (request->json)
		puts("\n]");
	return status;
}

static int check(const struct check_request *request)
{
	int status = EXIT_CLEAN;

	if (request->undo)
		return qed_image_check_undo(request->file, &qedimg_log) < 0 ?
			       EXIT_FAILED : EXIT_CLEAN;
	if (request->chain)
		return check_chain(request);
	check_file(request, request->file, &status);
	if (request->json)
		putchar('\n');
	return status;
}

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct check_request *request)
{
	static const struct option long_options[] = {
		{ "backing-chain", no_argument, NULL, 'c' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "undo", no_argument, NULL, 'u' },
		QEDIMG_PROGRESS_LONG_OPTION,
		QEDIMG_COMMON_LONG_OPTIONS,
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:hpqr:U", long_options, NULL)) !=
	       -1) {
		switch (c) {
		case 'c':
			request->chain = true;
			break;
		case 'n':
			request->dry_run = true;
			break;
		case 'r':
			request->repair = optarg;
			break;
		case 'u':
			request->undo = true;
			break;
		default:
			if (qedimg_common_option(&request->common, c) < 0)
				return -EINVAL;
		}
	}
	request->file = argv[optind];
	request->json = qedimg_wants_json(&request->common) &&
			!request->common.quiet;
	return 0;
}

/* What is wrong with the request, or null. */
static const char *clash(const struct check_request *request)
{
	if (!request->file)
		return "the name of the image is missing";
	if (request->repair && strcmp(request->repair, "leaks") != 0 &&
	    strcmp(request->repair, "all") != 0)
		return "-r must be leaks or all";
	if (request->dry_run && !request->repair)
		return "--dry-run needs -r leaks or -r all";
	if (request->common.force_share && request->repair && !request->dry_run)
		return "-U only reads: it cannot be used with -r";
	if (request->chain && request->repair)
		return "--backing-chain only reads: check the file in question "
		       "by itself with -r";
	if (request->undo && (request->repair || request->chain ||
			      request->common.force_share))
		return "--undo cannot be used with other actions";
	if (request->undo && (request->common.output ||
			      request->common.progress != QEDIMG_PROGRESS_NONE))
		return "--undo has no report: it cannot be used with --output, "
		       "-p or --progress";
	return NULL;
}

static int check_values(const struct check_request *request,
			const char *surplus)
{
	const char *wrong = clash(request);

	if (wrong) {
		qedimg_error(request->file, "%s", wrong);
		return -EINVAL;
	}
	return qedimg_no_more(request->file, surplus);
}

static int run(int argc, char **argv)
{
	struct check_request request = { .file = NULL };
	const char *format;

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_check);
	if (request.common.help)
		return qedimg_help(&qedimg_check);
	if (check_values(&request, request.file ? argv[optind + 1] : NULL) < 0)
		return qedimg_usage_error(&qedimg_check);
	if (qedimg_common_check(&request.common, request.file) == 0)
		return check(&request);
	format = request.common.format;
	/* A raw file is one that qemu-img cannot check either. */
	return format && strcmp(format, "raw") == 0 ?
		       EXIT_UNSUPPORTED :
		       qedimg_usage_error(&qedimg_check);
}

const struct qedimg_command qedimg_check = {
	.name = "check",
	.summary = "find and mend what is wrong with an image",
	.help =
	"Usage: qedimg check [-q] [-f qed] [--output=human|json] [-r leaks|all]\n"
	"                    [--dry-run] [--backing-chain] [-U] [-p]\n"
	"                    [--progress=json] FILE\n"
	"       qedimg check --undo FILE\n"
	"\n"
	"Check the tables of a QED image.  Without -r nothing is changed.\n"
	"\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  -r WHAT            mend 'leaks', or 'all' that is wrong\n"
	"  --dry-run          only say what -r would do\n"
	"  --undo             put back the tables that -r all has changed\n"
	"  --backing-chain    check the images behind it as well\n"
	"  --output=FORMAT    human (the default) or json, with the keys of\n"
	"                     'qemu-img check'\n"
	"  -U, --force-share  also if another program writes the image now: what\n"
	"                     is told may be out of date\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 print nothing but errors\n"
	"  -h, --help         print this help\n"
	"\n"
	"Exit status: 0 clean, 1 the check failed, 2 corruptions, 3 leaks, 63 the\n"
	"format has no check.\n",
	.run = run,
};
