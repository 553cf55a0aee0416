# shellcheck shell=bash
# What the scripts beside this file share: they source it. It says where things are, talks to the person at the
# terminal, and makes directories that are whole or absent.

set -euo pipefail

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
scripts=$repo/qemu-scripts

# Everything that is downloaded or made from a download lives here. Exported: the Rust programs look there too.
PVIO_DIR=$(realpath -ms -- "${PVIO_DIR:-$repo/target/pvio}")
export PVIO_DIR

# Cargo reads a relative CARGO_TARGET_DIR from the directory it runs in; the scripts run it in more than one.
[[ -z ${CARGO_TARGET_DIR:-} ]] || CARGO_TARGET_DIR=$(realpath -ms -- "$CARGO_TARGET_DIR")
plugin=${CARGO_TARGET_DIR:-$repo/target}/release/libpvio.so
# shellcheck disable=SC2034 # the scripts run it
pvio=${plugin%/*}/pvio

# The path of the QEMU that setup chose is written in this file.
chosen_file=$PVIO_DIR/qemu/chosen


### Talking. Messages go to stderr, so that a script's result on stdout can be piped.

if [[ -t 2 && ${TERM:-dumb} != dumb && -z ${NO_COLOR:-} ]]; then
    red=$'\e[31m' plain=$'\e[m' erase=$'\r\e[K'
else
    red='' plain='' erase=''
fi

say() { printf '%s%s\n' "$erase" "$*" >&2; }

complain() { say "$red${0##*/}:$plain $*"; }

die() {
    complain "$@"
    exit 1
}

# progress TEXT: how far something long has come. One line that is written over on a terminal; elsewhere a line
# now and then, so that a log stays short.
progress_due=0
progress() {
    if [[ -n $erase ]]; then
        printf '%s%s' "$erase" "$1" >&2
    elif ((SECONDS >= progress_due)); then
        say "$1"
        progress_due=$((SECONDS + 5))
    fi
}

# answer_help COMMAND ARGUMENT...: prints what `pvio COMMAND --help` would, and exits, if the arguments ask for that.
# Nothing has to be built for it: the program and this function print the same file.
answer_help() {
    local command=$1 argument text
    for argument in "${@:2}"; do
        case $argument in
            --) return ;;
            -h | --help)
                text=$(<"$scripts/help/$command.txt")
                printf '%s\n' "${text//pvio $command/qemu-scripts/${0##*/}}"
                exit
                ;;
        esac
    done
}

# os_release NAME: what /etc/os-release says of the host's distribution, if anything.
os_release() {
    # shellcheck source=/dev/null
    (unset -v "$1" && source /etc/os-release && echo "${!1:-}")
}

# at_least HAVE WANT: is version HAVE the same as WANT, or newer?
at_least() { printf '%s\n' "$2" "$1" | sort -V -C; }


### The QEMU to run and the plugin.

# Other scripts call this instead of setup: it does nothing where setup has been run.
# Setup's summary of what it found is of no interest to them; its progress and its complaints are.
ensure_setup() {
    local qemu
    qemu=$(chosen_qemu)
    [[ -e $plugin && -x $pvio && -x $qemu ]] || "$scripts/setup" >/dev/null
}

# The QEMU to run: nothing where none was chosen. $PVIO_QEMU counts at once, without another setup.
chosen_qemu() {
    if [[ -n ${PVIO_QEMU:-} ]]; then
        command -v -- "$PVIO_QEMU" || die "PVIO_QEMU=$PVIO_QEMU: there is no such program"
    elif [[ -e $chosen_file ]]; then
        cat -- "$chosen_file"
    fi
}

# plugin_argument [OPTION...]: what to give to QEMU's -plugin. QEMU takes a comma for the end of an option unless
# it is doubled.
plugin_argument() {
    local argument=file=${plugin//,/,,} option
    for option; do
        argument+=,${option//,/,,}
    done
    echo "$argument"
}


### Directories that are made whole or not at all.
#
# Such a directory holds a file `stamp`: what it was made from, then kind, size and path of everything in it. It is
# made under another name, stamped, and renamed: so it is never seen half made, and a file that is lost or cut short
# later is noticed when the stamp is compared with what is there.

list_contents() { (cd -- "$1" && LC_ALL=C find . ! -type d ! -path ./stamp -printf '%y %s %P\n' | LC_ALL=C sort); }

# is_whole DIRECTORY RECIPE
is_whole() { [[ -f $1/stamp ]] && cmp -s -- "$1/stamp" <(echo "$2" && list_contents "$1"); }

# begin_whole DIRECTORY: makes DIRECTORY.new, empty, to be filled.
begin_whole() {
    [[ ! -e $1 ]] || say "$1 is not what setup left there: making it again"
    rm -rf -- "$1.new"
    mkdir -p -- "$1.new"
}

# finish_whole DIRECTORY RECIPE
finish_whole() {
    local contents
    contents=$(list_contents "$1.new")
    printf '%s\n' "$2" "$contents" >"$1.new/stamp"
    rm -rf -- "$1"
    mv -- "$1.new" "$1"
}

# Two scripts at once would download into each other's files: the second waits. The lock goes with the process.
take_lock() {
    mkdir -p -- "$PVIO_DIR"
    exec {lock}>"$PVIO_DIR/lock"
    if ! flock -n "$lock"; then
        say "waiting for another setup that works in $PVIO_DIR"
        flock "$lock"
    fi
}
