/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Static probes for tracers (perf, bpftrace, SystemTap), provider "libqed".
 * One that nobody traces is a no-op instruction; without <sys/sdt.h> it is
 * nothing.  qedfs(1) lists them with their arguments, which are integers,
 * pointers or C strings, and must be at hand: they are evaluated whether or not
 * somebody traces.
 */
#ifndef QED_PROBE_H
#define QED_PROBE_H

#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>

#define QED_PROBE1(name, a)          DTRACE_PROBE1(libqed, name, a)
#define QED_PROBE2(name, a, b)       DTRACE_PROBE2(libqed, name, a, b)
#define QED_PROBE3(name, a, b, c)    DTRACE_PROBE3(libqed, name, a, b, c)
#define QED_PROBE4(name, a, b, c, d) DTRACE_PROBE4(libqed, name, a, b, c, d)
#else
#define QED_PROBE1(name, a)          ((void)(a))
#define QED_PROBE2(name, a, b)       ((void)(a), (void)(b))
#define QED_PROBE3(name, a, b, c)    ((void)(a), (void)(b), (void)(c))
#define QED_PROBE4(name, a, b, c, d) \
	((void)(a), (void)(b), (void)(c), (void)(d))
#endif

#endif
