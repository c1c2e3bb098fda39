/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Progress on stderr, and signals that ask for it or end a job. */
#include "config.h"

#include "progress.h"
#include "size.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH   30
#define USUAL_WIDTH 80
#define FACTS_TEXT  (4 * QEDIMG_SIZE_TEXT)

/* Set by signal handlers. */
static volatile sig_atomic_t stop, line_wanted;

static struct progress {
	enum qedimg_progress_form form;
	struct timespec start;
	double shown;			/* seconds from the start, < 0: never */
	uint64_t done, total;
	bool drawn;			/* there is a bar on the terminal */
	struct sigaction old_int, old_hup, old_term, old_usr1;
} state;

/* The second of them, whichever it is, ends the program once this returns. */
static void on_stop(int sig)
{
	if (stop) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
	stop = 1;
}

static void on_usr1(int sig)
{
	(void)sig;
	line_wanted = 1;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - state.start.tv_sec) +
	       (double)(now.tv_nsec - state.start.tv_nsec) / 1e9;
}

static double percent(void)
{
	/* Of nothing, all is done. */
	return state.total ?
		       100.0 * (double)state.done / (double)state.total : 100;
}

static double rate(double elapsed)
{
	return elapsed > 0 ? (double)state.done / elapsed : 0;
}

/* Seconds left; negative: unknown. */
static double time_left(double elapsed)
{
	double speed = rate(elapsed);

	return speed > 0 ? (double)(state.total - state.done) / speed : -1;
}

static void format_facts(char text[FACTS_TEXT], double elapsed)
{
	char done[QEDIMG_SIZE_TEXT], total[QEDIMG_SIZE_TEXT];
	char speed[QEDIMG_SIZE_TEXT];
	double left = time_left(elapsed);
	int n = snprintf(text, FACTS_TEXT, "%5.1f%%", percent());

	if (!state.total)
		return;
	qedimg_format_size(state.done, done);
	qedimg_format_size(state.total, total);
	qedimg_format_size((uint64_t)rate(elapsed), speed);
	n += snprintf(text + n, FACTS_TEXT - (size_t)n, "  %s of %s  %s/s", done,
		      total, speed);
	if (left >= 0 && n < FACTS_TEXT)
		snprintf(text + n, FACTS_TEXT - (size_t)n, "  %.0f s left",
			 left);
}

static void clear_bar(void)
{
	if (state.drawn)
		fputs("\r\033[K", stderr);
	state.drawn = false;
}

static int terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return USUAL_WIDTH;
	return size.ws_col;
}

/* A line that the terminal would break could not be taken away again. */
static void draw_bar(double elapsed)
{
	char facts[FACTS_TEXT];
	int room = terminal_width() - 1, width, full;

	format_facts(facts, elapsed);
	width = room - (int)strlen(facts) - (int)strlen("[] ");
	width = width < BAR_WIDTH ? width : BAR_WIDTH;
	full = (int)(percent() / 100 * width);
	fputs("\r\033[K", stderr);
	if (width > 0)
		fputc('[', stderr);
	for (int i = 0; i < width; i++)
		fputc(i < full ? '#' : '.', stderr);
	if (width > 0)
		fputs("] ", stderr);
	fprintf(stderr, "%.*s", room, facts);
	state.drawn = true;
}

static void put_json(double elapsed)
{
	double left = time_left(elapsed);

	fprintf(stderr,
		"{ \"done\": %" PRIu64 ", \"total\": %" PRIu64
		", \"percent\": %.1f, \"seconds\": %.3f"
		", \"bytes-per-second\": %.0f",
		state.done, state.total, percent(), elapsed, rate(elapsed));
	if (left >= 0)
		fprintf(stderr, ", \"seconds-left\": %.1f", left);
	fputs(" }\n", stderr);
}

static void put_line(double elapsed)
{
	char facts[FACTS_TEXT];

	clear_bar();
	if (state.form == QEDIMG_PROGRESS_JSON) {
		put_json(elapsed);
		return;
	}
	format_facts(facts, elapsed);
	fprintf(stderr, "%s\n", facts);
}

static void show(double elapsed)
{
	if (state.form == QEDIMG_PROGRESS_BAR)
		draw_bar(elapsed);
	else if (state.form == QEDIMG_PROGRESS_JSON)
		put_json(elapsed);
	state.shown = elapsed;
	fflush(stderr);
}

static void on_progress(void *opaque, uint64_t done, uint64_t total)
{
	double interval = state.form == QEDIMG_PROGRESS_BAR ? 0.1 : 0.5;
	double elapsed = seconds();

	(void)opaque;
	state.total = total;
	state.done = done < total ? done : total;
	if (line_wanted) {
		line_wanted = 0;
		put_line(elapsed);
	}
	if (state.shown < 0 || elapsed - state.shown >= interval)
		show(elapsed);
}

static bool on_cancelled(void *opaque)
{
	(void)opaque;
	return stop;
}

int qedimg_progress_parse(const char *text, enum qedimg_progress_form *form)
{
	if (strcmp(text, "json") != 0)
		return -EINVAL;
	*form = QEDIMG_PROGRESS_JSON;
	return 0;
}

const struct qed_job *qedimg_progress_start(enum qedimg_progress_form form)
{
	static const struct qed_job job = {
		.progress = on_progress,
		.cancelled = on_cancelled,
	};
	struct sigaction act = { .sa_handler = on_stop };

	if (form == QEDIMG_PROGRESS_BAR && !isatty(STDERR_FILENO))
		form = QEDIMG_PROGRESS_NONE;
	state = (struct progress){ .form = form, .shown = -1 };
	stop = line_wanted = 0;
	clock_gettime(CLOCK_MONOTONIC, &state.start);
	sigaction(SIGINT, &act, &state.old_int);
	/* nohup(1) has it ignored. */
	sigaction(SIGHUP, NULL, &state.old_hup);
	if (state.old_hup.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &act, NULL);
	sigaction(SIGTERM, &act, &state.old_term);
	act.sa_handler = on_usr1;
	act.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &act, &state.old_usr1);
	return &job;
}

void qedimg_progress_end(void)
{
	if (state.form == QEDIMG_PROGRESS_JSON && state.shown >= 0)
		show(seconds());
	clear_bar();
	fflush(stderr);
	sigaction(SIGINT, &state.old_int, NULL);
	sigaction(SIGHUP, &state.old_hup, NULL);
	sigaction(SIGTERM, &state.old_term, NULL);
	sigaction(SIGUSR1, &state.old_usr1, NULL);
}
