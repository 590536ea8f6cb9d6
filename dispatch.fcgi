#!/bin/sh
# The launcher: what the web server starts, and the one file of the program the owner touches.
#
# It finds the program `toolshed` and becomes it (exec, no arguments). It looks in this order:
#   1. $TOOLSHED_HOME/        when that is set, there and nowhere else
#   2. beside this file       for trying it out; everything here may be asked for by visitors
#   3. ../toolshed-home/      next to the document root
#   4. ~/toolshed/            in the account's home folder
# The program is told where its launcher is by TOOLSHED_LAUNCHER; touching the launcher reloads it.
#
# Beside a program that has passed its check lies a copy of it, `toolshed.good`, with its time stamp. A
# program with another time stamp has not been checked, or has failed: then the copy is started, which
# checks it and gives way to it when all is well. So a broken upload takes no site down.
#
# When the program cannot be started, one sentence on stderr says what is missing and what to do,
# and the exit code is 127 (no program found) or 126 (found, but it cannot be run). Run this file in
# a shell to read that sentence: under a web server it goes to a log you may not be able to see.
#
# Nothing here may fork (no pipes, no `$(…)`): on a full account fork is what fails first.
# Keep the line ends of this file as they are (LF): with CRLF the system looks for "/bin/sh\r".

fail() {
    echo "dispatch.fcgi: $2" >&2
    exit "$1"
}

# Sets `home` to the account's home folder. Web servers often pass no HOME, so the account is then
# looked up by its number.
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

program=
places=
for place; do
    if [ -f "$place" ] || [ -f "$place.good" ]; then
        program=$place
        break
    fi
    places=${places:+$places, }$place
done
[ -n "$program" ] ||
    fail 127 "the program is missing: no file at $places; upload 'toolshed' to one of these places and make it executable (chmod 755)."
# Not as CGI: nobody would check the new one there, and the old one would be started for ever.
if [ -x "$program.good" ] && [ -z "${GATEWAY_INTERFACE-}" ]; then
    if [ ! -x "$program" ] || [ "$program" -nt "$program.good" ] || [ "$program" -ot "$program.good" ]; then
        program=$program.good
    fi
fi
[ -s "$program" ] ||
    fail 126 "$program is empty; its upload was interrupted, so upload it again."
[ -x "$program" ] ||
    fail 126 "$program may not be run by this account; allow it with: chmod 755 $program"

# A shell would try to run a text file as commands, so that is ruled out first. Not as CGI, where every
# request would pay for it: a shell reads a program's first "line" byte by byte, and that is 7 ms.
first='?ELF'
[ -n "${GATEWAY_INTERFACE-}" ] || [ ! -r "$program" ] || IFS= read -r first <"$program" || :
case $first in
    ?ELF* | '#!'*) ;;
    *) fail 126 "$program is not a program; upload the file 'toolshed' again, in binary mode." ;;
esac

# From here the shell ends only when the system refuses to run the program.
trap 'fail 126 "$program cannot run on this machine; it is damaged or was built for another kind of machine, so upload the one that fits."' EXIT
# bash leaves without the trap unless told to go on.
[ -z "${BASH_VERSION-}" ] || shopt -s execfail
exec "$program"
exit 126
