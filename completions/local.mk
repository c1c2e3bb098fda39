# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Where bash-completion and zsh look for them of themselves.

bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
if HAVE_JSON_C
dist_bashcompletion_DATA = %D%/bash/qedimg
dist_zshcompletion_DATA = %D%/zsh/_qedimg
else
EXTRA_DIST += \
	%D%/bash/qedimg \
	%D%/zsh/_qedimg
endif
