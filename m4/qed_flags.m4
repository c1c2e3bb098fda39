# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Compiler and linker flags: warnings, sanitizers, hardening.  They go to
# variables of their own, so that CFLAGS and LDFLAGS stay the user's.

# QED_ADD_CFLAGS(VARIABLE, FLAGS): each of FLAGS that the compiler knows
AC_DEFUN([QED_ADD_CFLAGS], [
AC_LANG_ASSERT([C])
for qed_flag in $2; do
	AC_MSG_CHECKING([whether $CC accepts $qed_flag])
	qed_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -Werror $qed_flag"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]])],
		[AC_MSG_RESULT([yes])
		$1="$$1 $qed_flag"],
		[AC_MSG_RESULT([no])])
	CFLAGS=$qed_save_CFLAGS
done
AC_SUBST([$1])
])

# QED_ADD_LDFLAGS(VARIABLE, FLAGS): each of FLAGS that the linker knows
AC_DEFUN([QED_ADD_LDFLAGS], [
AC_LANG_ASSERT([C])
for qed_flag in $2; do
	AC_MSG_CHECKING([whether $CC links with $qed_flag])
	qed_save_LDFLAGS=$LDFLAGS
	LDFLAGS="$LDFLAGS $qed_flag"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
		[AC_MSG_RESULT([yes])
		$1="$$1 $qed_flag"],
		[AC_MSG_RESULT([no])])
	LDFLAGS=$qed_save_LDFLAGS
done
AC_SUBST([$1])
])

# --enable-sanitizer=LIST: SANITIZER_FLAGS, for the compiler and the linker
AC_DEFUN([QED_SANITIZER], [
AC_ARG_ENABLE([sanitizer],
	[AS_HELP_STRING([--enable-sanitizer=LIST],
		[compile with -fsanitize=LIST, such as address,undefined
		 or thread])],
	[], [enable_sanitizer=no])
AS_IF([test "x$enable_sanitizer" = xyes],
	[AC_MSG_ERROR([--enable-sanitizer needs a list, such as address,undefined])])
SANITIZER_FLAGS=
AS_IF([test "x$enable_sanitizer" != xno], [
	SANITIZER_FLAGS="-fsanitize=$enable_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
	AC_MSG_CHECKING([whether $CC links with -fsanitize=$enable_sanitizer])
	qed_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS $SANITIZER_FLAGS"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
		[AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		AC_MSG_ERROR([$CC cannot link with -fsanitize=$enable_sanitizer])])
	# A program starts in two thirds of the time then, and tests start thousands.
	AS_CASE([$enable_sanitizer], [*address*], [
		AC_MSG_CHECKING([whether $CC links AddressSanitizer statically])
		qed_static="-static-libasan -static-libubsan"
		CFLAGS="$qed_save_CFLAGS $SANITIZER_FLAGS $qed_static -Werror"
		AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
			[AC_MSG_RESULT([yes])
			SANITIZER_FLAGS="$SANITIZER_FLAGS $qed_static"],
			[AC_MSG_RESULT([no])])])
	CFLAGS=$qed_save_CFLAGS
])
AC_SUBST([SANITIZER_FLAGS])
AC_SUBST([enable_sanitizer])
])

# --enable-werror, WARN_CFLAGS for everything, FRAME_CFLAGS
AC_DEFUN([QED_WARNINGS], [
AC_ARG_ENABLE([werror],
	[AS_HELP_STRING([--enable-werror], [treat compiler warnings as errors])],
	[], [enable_werror=no])
QED_ADD_CFLAGS([WARN_CFLAGS], [-Wall -Wextra -Wshadow -Wvla \
	-Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wundef])
# For the library, whose code may run on small stacks.  Sanitizers inflate every
# frame.
AC_SUBST([FRAME_CFLAGS])
AS_IF([test "x$enable_sanitizer" = xno],
	[QED_ADD_CFLAGS([FRAME_CFLAGS], [-Wframe-larger-than=6144])])
AS_IF([test "x$enable_werror" = xyes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
])

# HARDEN_CFLAGS and HARDEN_LDFLAGS.  Sanitizers see more without them.
AC_DEFUN([QED_HARDENING], [
AC_SUBST([HARDEN_CFLAGS])
AS_IF([test "x$enable_sanitizer" = xno], [
	QED_ADD_CFLAGS([HARDEN_CFLAGS], [-fstack-protector-strong \
		-fstack-clash-protection])
	# Where the user or the distribution has chosen a level, it stands; and
	# without optimisation the C library warns instead of checking.
	AC_MSG_CHECKING([whether to add -D_FORTIFY_SOURCE=2])
	qed_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -Werror -D_FORTIFY_SOURCE=2"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]])],
		[AC_MSG_RESULT([yes])
		HARDEN_CFLAGS="$HARDEN_CFLAGS -D_FORTIFY_SOURCE=2"],
		[AC_MSG_RESULT([no])])
	CFLAGS=$qed_save_CFLAGS
])
QED_ADD_LDFLAGS([HARDEN_LDFLAGS], [-Wl,-z,relro -Wl,-z,now -Wl,--as-needed])
])
