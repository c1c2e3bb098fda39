/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg: makes and inspects QED images.  Finds the subcommand and runs it. */
#include "config.h"

#include "prologue.h"
#include "qedimg.h"

#include <errno.h>
#include <locale.h>
#include <string.h>

static const struct qedimg_command *const commands[] = {
	&qedimg_check,
	&qedimg_commit,
	&qedimg_compact,
	&qedimg_compare,
	&qedimg_convert,
	&qedimg_create,
	&qedimg_dd,
	&qedimg_info,
	&qedimg_list,
	&qedimg_map,
	&qedimg_measure,
	&qedimg_rebase,
	&qedimg_resize,
	&qedimg_snapshot,
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct qedimg_command *find_command(const char *name)
{
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	qedimg_error(NULL, "unknown command '%s'", name);
	fputs("Try 'qedimg --help'.\n", stderr);
	return NULL;
}

static void print_overview(FILE *out)
{
	fputs("Usage: qedimg COMMAND [ARGUMENT...]\n"
	      "       qedimg help [COMMAND]\n"
	      "       qedimg -h|--help\n"
	      "       qedimg -V|--version\n"
	      "\n"
	      "Make and inspect QED disk images.\n"
	      "\n"
	      "Commands:\n",
	      out);
	for (size_t i = 0; i < NCOMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name,
			commands[i]->summary);
	fputs("\n'qedimg help COMMAND' tells more about one of them.\n", out);
}

int qedimg_help(const struct qedimg_command *command)
{
	fputs(command->help, stdout);
	return 0;
}

int qedimg_usage_error(const struct qedimg_command *command)
{
	fprintf(stderr, "Try 'qedimg help %s'.\n", command->name);
	return 1;
}

static int run_help(int argc, char **argv)
{
	const struct qedimg_command *command;

	if (argc == 1) {
		print_overview(stdout);
		return 0;
	}
	if (argc > 2) {
		qedimg_error(NULL, "unexpected argument '%s'", argv[2]);
		return 1;
	}
	command = find_command(argv[1]);
	return command ? qedimg_help(command) : 1;
}

static int run_command(int argc, char **argv)
{
	const struct qedimg_command *command = find_command(argv[0]);
	char title[32];

	if (!command)
		return 1;
	snprintf(title, sizeof(title), "qedimg %s", command->name);
	argv[0] = title;
	return command->run(argc, argv);
}

static int run(int argc, char **argv)
{
	if (argc == 0) {
		print_overview(stderr);
		return 1;
	}
	if (strcmp(argv[0], "-h") == 0 || strcmp(argv[0], "--help") == 0) {
		print_overview(stdout);
		return 0;
	}
	if (strcmp(argv[0], "-V") == 0 || strcmp(argv[0], "--version") == 0) {
		printf("qedimg %s\n", qed_version());
		return 0;
	}
	if (strcmp(argv[0], "help") == 0)
		return run_help(argc, argv);
	if (argv[0][0] == '-') {
		qedimg_error(NULL, "unknown option '%s'", argv[0]);
		fputs("Try 'qedimg --help'.\n", stderr);
		return 1;
	}
	return run_command(argc, argv);
}

int main(int argc, char **argv)
{
	int status;

	if (!begin_program())
		return 1;
	/* Who asks for a line of progress does not know how far a command is. */
	signal(SIGUSR1, SIG_IGN);
	setlocale(LC_CTYPE, "");
	status = argc > 0 ? run(argc - 1, argv + 1) : 1;
	/* What the user was to read must have got there. */
	errno = 0;
	if (fflush(stdout) != 0 || ferror(stdout)) {
		qedimg_error(NULL, "cannot write the output: %s",
			     errno ? strerror(errno) : "write error");
		return 1;
	}
	return status;
}
