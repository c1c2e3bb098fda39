/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names come from image headers and can be any bytes.  A terminal gets
 * printable characters only, JSON gets UTF-8 only.
 */
#include "config.h"

#include "qedimg.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define REPLACEMENT "\xef\xbf\xbd"	/* U+FFFD */

/*
 * Does it change how others are shown (Unicode's format characters: marks of
 * direction and joiners), or not show at all?  A name would not look like what it is.
 */
static bool is_invisible(wchar_t c)
{
	static const wchar_t ranges[][2] = {
		{ 0xad, 0xad },		{ 0x61c, 0x61c },
		{ 0x180e, 0x180e },	{ 0x200b, 0x200f },
		{ 0x2028, 0x202e },	{ 0x2060, 0x206f },
		{ 0xfeff, 0xfeff },	{ 0xfff9, 0xfffb },
		{ 0xe0000, 0xe0fff },
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (c >= ranges[i][0] && c <= ranges[i][1])
			return true;
	return false;
}

/* Bytes of the printable character that `text` begins with, 0 if none. */
static size_t printable(const char *text, size_t len)
{
	mbstate_t state;
	wchar_t wide;
	size_t n;

	memset(&state, 0, sizeof(state));
	n = mbrtowc(&wide, text, len, &state);
	if (n == (size_t)-1 || n == (size_t)-2)
		return 0;
	return iswprint((wint_t)wide) && !is_invisible(wide) ? n : 0;
}

void qedimg_put(FILE *out, const char *text)
{
	size_t left = strlen(text), n;

	for (; left > 0; text += n, left -= n) {
		n = printable(text, left);
		if (n > 0) {
			fwrite(text, 1, n, out);
		} else {
			n = 1;
			fprintf(out, "\\x%02x", (unsigned char)*text);
		}
	}
}

void qedimg_error(const char *file, const char *format, ...)
{
	char message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	fputs("qedimg: ", stderr);
	if (file) {
		qedimg_put(stderr, file);
		fputs(": ", stderr);
	}
	qedimg_put(stderr, message);
	fputc('\n', stderr);
}

static void log_write(void *opaque, enum qed_log_level level,
		      const char *message)
{
	(void)opaque;
	if (level > QED_LOG_WARNING)
		return;
	fputs(level == QED_LOG_ERROR ? "qedimg: " : "qedimg: warning: ",
	      stderr);
	qedimg_put(stderr, message);
	fputc('\n', stderr);
}

static void log_error(void *opaque, enum qed_log_level level, const char *message)
{
	if (level == QED_LOG_ERROR)
		log_write(opaque, level, message);
}

const struct qed_log qedimg_log = { .write = log_write };
const struct qed_log qedimg_error_log = { .write = log_error };

/*
 * Bytes of the well-formed UTF-8 character that `text`, ended by a NUL, begins
 * with, 0 if none.  The bounds of the second byte keep out overlong forms,
 * surrogates and what lies past U+10FFFF.
 */
static size_t utf8_char(const unsigned char *text)
{
	unsigned char lead = text[0], low = 0x80, high = 0xbf;
	size_t n, i;

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (i = 2; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

char *qedimg_utf8(const char *text)
{
	char *copy = malloc(strlen(text) * strlen(REPLACEMENT) + 1);
	char *out = copy;
	size_t n;

	if (!copy)
		return NULL;
	while (*text) {
		n = utf8_char((const unsigned char *)text);
		if (n > 0) {
			memcpy(out, text, n);
			out += n;
			text += n;
		} else {
			out = stpcpy(out, REPLACEMENT);
			text++;
		}
	}
	*out = '\0';
	return copy;
}
