# SPDX-License-Identifier: LGPL-2.1-or-later

dist_man_MANS += \
	%D%/qed.5 \
	%D%/qedimg.1
