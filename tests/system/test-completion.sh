#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the shells complete on qedimg's command lines.

many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" bash zsh

mkdir "$TMP/bin" "$TMP/work"
ln -s "$QEDIMG" "$TMP/bin/qedimg"
PATH=$TMP/bin:$PATH
cd "$TMP/work"
touch one.qed only.qed 'two words.qed'

# Reads a bash command line as words, one an argument, and prints what the last may
# become.
cat >bash.sh <<'END'
. "$1"
shift
complete -p qedimg | grep -q -- '-F _qedimg qedimg' || exit 1
COMP_WORDS=(qedimg "$@")
COMP_CWORD=$#
_qedimg qedimg
printf '%s\n' "${COMPREPLY[@]}"
END

# Types a line and a tab into a zsh on a terminal of its own, and waits until it has
# shown all the words that follow.
cat >zsh.sh <<'END'
zmodload zsh/zpty
zpty z "TERM=dumb COLUMNS=200 zsh -f -i"
zpty -w z "PS1='> '; fpath=($1 \$fpath); autoload -U compinit; compinit -D -u"
zpty -w z "zstyle ':completion:*' verbose no; LISTMAX=1000"
zpty -w z "echo REA''DY"
while zpty -r z line && [[ $line != READY* ]]; do :; done
zpty -n -w z "$2"$'\t'
shift 2
while (( $# )) && zpty -r z line; do
	print -r -- $line
	for word in ${=line//$'\r'/ }; do
		argv=(${argv:#$word})
	done
done
zpty -d z
END

in_bash() {
	bash bash.sh "$TOP_SRCDIR/completions/bash/qedimg" "$@" | sort >bash.txt
}

# in_zsh LINE WORD…
in_zsh() {
	timeout 300 zsh -f zsh.sh "$TOP_SRCDIR/completions/zsh" "$@" >zsh.txt ||
		fail "zsh: not all of '$*' in: $(cat zsh.txt)"
}

# offers WORD…: bash has all of these
offers() {
	for word; do
		grep -qxF -e "$word" bash.txt ||
			fail "bash: no '$word' in: $(tr '\n' ' ' <bash.txt)"
	done
}

commands=$(qedimg --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "qedimg has no commands"

# The commands.
in_bash ''
# shellcheck disable=SC2086 # a word each
offers $commands help --help
in_bash help c
offers check compare create
! grep -qx info bash.txt || fail "bash: 'info' begins with c"
# shellcheck disable=SC2086
in_zsh 'qedimg ' $commands help
in_zsh 'qedimg help c' check compare create

# Every option of every command's help, in both forms.
for command in $commands; do
	qedimg help "$command" |
		sed -n 's/^  \(-[^ ,]*\)\(, \(--[^ ]*\)\)\{0,1\}.*/\1 \3/p' |
		tr ' ' '\n' | sed '/^$/d; s/=.*/=/' | sort -u >options
	[ -s options ] || fail "$command has no options"
	in_bash "$command" -
	diff options bash.txt || fail "bash: options of $command"
done
# Options in zsh, which has names and values in its own form.
for command in $commands; do
	qedimg help "$command" | grep -oE -e '^  (-[^ ,]*, )?--[a-z-]+' |
		sed 's/.*--/--/' >options
	# shellcheck disable=SC2046
	in_zsh "qedimg $command --" $(cat options)
done

in_zsh 'qedimg map -' -s --start-offset

# What the usage lists as values.
in_bash check -r ''
offers leaks all
in_bash check -r l
[ "$(cat bash.txt)" = leaks ] || fail "bash: -r l gives $(cat bash.txt)"
in_bash map --output = ''
offers human json
in_bash map --output =
offers human json
in_bash compare -F r
[ "$(cat bash.txt)" = raw ] || fail "bash: -F r gives $(cat bash.txt)"
in_zsh 'qedimg check -r ' leaks all
in_zsh 'qedimg map --output=' human json

# And names of files.
in_bash info ''
offers one.qed 'two words.qed'
in_bash info -U one
[ "$(cat bash.txt)" = one.qed ] || fail "bash: one gives $(cat bash.txt)"
in_zsh 'qedimg info -U on' one.qed only.qed
in_zsh 'qedimg rebase -b on' one.qed only.qed
in_zsh 'qedimg commit -b on' one.qed only.qed
in_zsh 'qedimg convert -B on' one.qed only.qed
in_zsh 'qedimg map --svg=on' one.qed only.qed
in_zsh 'qedimg dd if=on' one.qed only.qed
in_bash rebase -b on
offers one.qed only.qed
in_bash map --svg = on
offers one.qed only.qed
in_bash dd if = on
offers one.qed only.qed

# What may be left out, the operands of dd, and the list that -o takes.
in_bash commit -d ''
offers keep empty delete
in_zsh 'qedimg commit -d ' keep empty delete
in_bash dd ''
printf '%s\n' bs= count= if= of= skip= | diff - bash.txt || fail "bash: dd"
in_bash dd if = one.qed o
[ "$(cat bash.txt)" = of= ] || fail "bash: dd o gives $(cat bash.txt)"
in_bash dd -q o
[ "$(cat bash.txt)" = of= ] || fail "bash: dd -q o gives $(cat bash.txt)"
touch a,b.raw
in_bash dd if = a,
offers a,b.raw
touch help
in_bash info help on
offers one.qed only.qed
in_zsh 'qedimg dd ' bs= count= if= of= skip=
for command in create convert measure; do
	qedimg $command -o help | sed -n 's/^  \([a-z_]*\) .*/\1=/p' >options
	in_bash $command -o ''
	sort options | diff - bash.txt || fail "bash: $command -o"
	in_bash $command -o cluster_size = 64k,ta
	[ "$(cat bash.txt)" = 64k,table_size= ] ||
		fail "bash: $command -o two: $(cat bash.txt)"
	# No backing file; and of two words that end alike zsh shows the end first.
	[ $command != measure ] || continue
	# shellcheck disable=SC2046
	in_zsh "qedimg $command -o " $(sed 's/=//' options)
	in_bash $command -o cluster_size = 64k,table_size = 2,backing_
	diff - bash.txt <<-'END' || fail "bash: $command -o three"
		2,backing_file=
		2,backing_fmt=
	END
	in_bash $command -o backing_file = on
	offers one.qed only.qed
	in_bash $command -o cluster_size = 64k,backing_file = on
	offers one.qed only.qed
	in_zsh "qedimg $command -o cluster_size=64k,backing_f" backing_file backing_fmt
done

# A program that is not on the path.
(
	HOME=$TMP
	export HOME
	# shellcheck disable=SC2088 # as it was typed
	sed 's|qedimg "$@"|"~/bin/qedimg" "$@"|; s|^_qedimg qedimg|_qedimg "~/bin/qedimg"|' \
		bash.sh >home.sh
	bash home.sh "$TOP_SRCDIR/completions/bash/qedimg" info - | grep -qx -e --help
) || fail "bash: a program below ~"
