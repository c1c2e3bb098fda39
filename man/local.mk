# SPDX-License-Identifier: LGPL-2.1-or-later

dist_man_MANS += \
	%D%/qed.5 \
	%D%/qedfs.1
if HAVE_JSON_C
dist_man_MANS += %D%/qedimg.1
endif
