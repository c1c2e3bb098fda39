# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Optional parts.  By default a part is used where it is found; --with-NAME makes
# it an error if it is missing, --without-NAME leaves it out.  Afterwards
# $with_NAME is "yes" or "no (why)", for the summary, and HAVE_... is defined in
# config.h and for Makefile.am where the part is used.

# QED_OPTIONAL_ARG(NAME, PURPOSE)
AC_DEFUN([QED_OPTIONAL_ARG], [
AC_ARG_WITH([$1],
	[AS_HELP_STRING([--without-$1], [do without $2])],
	[], [with_$1=check])
])

# QED_OPTIONAL_MISSING(NAME): nothing if the user did not insist
AC_DEFUN([QED_OPTIONAL_MISSING], [
AS_IF([test "x$with_$1" = xyes],
	[AC_MSG_ERROR([--with-$1 was given, but $1 was not found])])
with_$1="no (not found)"
])

# QED_OPTIONAL_MODULE(NAME, VARIABLE, PKG-CONFIG MODULE, PURPOSE)
AC_DEFUN([QED_OPTIONAL_MODULE], [
QED_OPTIONAL_ARG([$1], [$4])
AS_IF([test "x$with_$1" = xno], [with_$1="no (--without-$1)"],
	[PKG_CHECK_MODULES([$2], [$3],
		[with_$1=yes
		AC_DEFINE([HAVE_$2], [1], [$1 is there.])],
		[QED_OPTIONAL_MISSING([$1])])])
AM_CONDITIONAL([HAVE_$2], [test "x$with_$1" = xyes])
])

# QED_OPTIONAL_HEADER(NAME, HEADER, PURPOSE)
AC_DEFUN([QED_OPTIONAL_HEADER], [
QED_OPTIONAL_ARG([$1], [$3])
AS_IF([test "x$with_$1" = xno], [with_$1="no (--without-$1)"],
	[AC_CHECK_HEADERS([$2], [with_$1=yes], [QED_OPTIONAL_MISSING([$1])])])
])
