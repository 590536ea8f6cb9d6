#!/bin/sh
# The launcher: what the web server starts, and the one file of the program the owner touches.
#
# It finds the program `toolshed` and execs it without arguments. It looks in this order:
#   1. $TOOLSHED_HOME/        only there, if it is set
#   2. beside this file       to try it out; visitors can ask for everything here
#   3. ../toolshed-home/      next to the document root
#   4. ~/toolshed/            in the account's home folder
# TOOLSHED_LAUNCHER tells the program where its launcher is; touching the launcher reloads the program.
#
# Beside a program that passed its check is a copy of it, `toolshed.good`, with the same time stamp. A
# program with another time stamp has not been checked, or has failed: then the copy is started, which
# checks the program and upgrades to it if it passes. So a broken upload does not take the site down.
#
# If the program cannot be started, one sentence on stderr says what is missing and what to do, and the
# exit code is 127 (no program found) or 126 (found, but it cannot be run). Run this file in a shell to
# read that sentence: under a web server it goes to a log you may not be able to see.
#
# Nothing here may fork (no pipes, no `$(…)`): on a full account, fork is what fails first.
# Keep the line endings of this file (LF): with CRLF the system looks for "/bin/sh\r".

fail() {
    echo "dispatch.fcgi: $2" >&2
    exit "$1"
}

# Sets `home` to the account's home folder. Web servers often pass no HOME; then the account is looked
# up by its number.
find_account_home() {
    home=${HOME-}
    [ -z "$home" ] || return 0
    account=
    while read -r key number _; do
        [ "$key" = "Uid:" ] && account=$number && break
    done 2>/dev/null </proc/self/status
    [ -n "$account" ] || return 0
    while IFS=: read -r _ _ number _ _ folder _; do
        [ "$number" = "$account" ] && home=$folder && break
    done 2>/dev/null </etc/passwd
}

case $0 in
    */*) cd "${0%/*}/" || fail 126 "cannot enter its own folder ${0%/*}; allow it with: chmod 755." ;;
esac
here=${PWD%/}
TOOLSHED_LAUNCHER=$here/${0##*/}
export TOOLSHED_LAUNCHER

if [ -n "${TOOLSHED_HOME-}" ]; then
    set -- "${TOOLSHED_HOME%/}/toolshed"
else
    find_account_home
    set -- "$here/toolshed" "${here%/*}/toolshed-home/toolshed"
    [ -z "$home" ] || set -- "$@" "${home%/}/toolshed/toolshed"
fi

# Whether the good copy beside a program counts: in a folder where everybody can create files, another account may have
# put it there.
has_good_copy() {
    [ -f "$1.good" ] && { [ ! -k "${1%/*}" ] || [ -O "$1.good" ]; }
}

program=
places=
for place; do
    if [ -f "$place" ] || has_good_copy "$place"; then
        program=$place
        break
    fi
    places=${places:+$places, }$place
done
[ -n "$program" ] ||
    fail 127 "the program is missing: no file at $places; upload 'toolshed' to one of these places and make it executable (chmod 755)."
# Not as CGI: there nobody would check the new one, and the old one would be started forever.
if [ -x "$program.good" ] && has_good_copy "$program" && [ -z "${GATEWAY_INTERFACE-}" ]; then
    if [ ! -x "$program" ] || [ "$program" -nt "$program.good" ] || [ "$program" -ot "$program.good" ]; then
        program=$program.good
    fi
fi
[ -s "$program" ] ||
    fail 126 "$program is empty; its upload was interrupted, so upload it again."
[ -x "$program" ] ||
    fail 126 "$program cannot be executed by this account; allow it with: chmod 755 $program"

# A shell would try to run a text file as commands, so that is ruled out first. Not as CGI, where every
# request would pay for it: a shell reads a program's first "line" byte by byte, which takes 7 ms.
first='?ELF'
[ -n "${GATEWAY_INTERFACE-}" ] || [ ! -r "$program" ] || IFS= read -r first <"$program" || :
case $first in
    ?ELF* | '#!'*) ;;
    *) fail 126 "$program is not a program; upload the file 'toolshed' again, in binary mode." ;;
esac

# From here on the shell exits only if the system refuses to run the program.
trap 'fail 126 "$program cannot run on this machine; it is damaged or was built for another kind of machine, so upload the one that fits."' EXIT
# bash exits without the trap unless told otherwise.
[ -z "${BASH_VERSION-}" ] || shopt -s execfail
exec "$program"
exit 126
