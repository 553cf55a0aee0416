# shellcheck shell=bash
# Functions that the scripts in this directory share: paths, messages, and directories that are complete or absent.

set -euo pipefail

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
scripts=$repo/qemu-scripts

# The directory of downloads and private copies. Exported, because the Rust programs use it too.
PVIO_DIR=$(realpath -ms -- "${PVIO_DIR:-$repo/target/pvio}")
export PVIO_DIR

# Cargo resolves a relative CARGO_TARGET_DIR in its working directory; the scripts run it in several.
[[ -z ${CARGO_TARGET_DIR:-} ]] || CARGO_TARGET_DIR=$(realpath -ms -- "$CARGO_TARGET_DIR")
plugin=${CARGO_TARGET_DIR:-$repo/target}/release/libpvio.so
# shellcheck disable=SC2034 # the scripts run it
pvio=${plugin%/*}/pvio

# This file has the path of the QEMU that setup chose.
chosen_file=$PVIO_DIR/qemu/chosen


### Messages. They go to stderr, so that a script's result on stdout can be piped.

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

# progress TEXT: shows the progress of a long step. On a terminal one line is overwritten; elsewhere a line is printed every
# five seconds at most, so that a log stays short.
progress_due=0
progress() {
    if [[ -n $erase ]]; then
        printf '%s%s' "$erase" "$1" >&2
    elif ((SECONDS >= progress_due)); then
        say "$1"
        progress_due=$((SECONDS + 5))
    fi
}

# answer_help COMMAND ARGUMENT...: prints the help of `pvio COMMAND` and exits, if the arguments contain --help or -h.
# It prints a file, so the program need not be built. A test compares the file with the program's own help.
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

# os_release NAME: prints a variable of /etc/os-release, if it is set.
os_release() {
    # shellcheck source=/dev/null
    (unset -v "$1" && source /etc/os-release && echo "${!1:-}")
}

# at_least HAVE WANT: succeeds if version HAVE is WANT or newer.
at_least() { printf '%s\n' "$2" "$1" | sort -V -C; }


### The QEMU to run and the plugin.

# Runs setup if it has not run yet. Hides its summary, but not its progress and errors.
ensure_setup() {
    local qemu
    qemu=$(chosen_qemu)
    [[ -e $plugin && -x $pvio && -x $qemu ]] || "$scripts/setup" >/dev/null
}

# Prints the QEMU to run, or nothing if none is chosen. $PVIO_QEMU takes effect without another setup.
chosen_qemu() {
    if [[ -n ${PVIO_QEMU:-} ]]; then
        command -v -- "$PVIO_QEMU" || die "PVIO_QEMU=$PVIO_QEMU: this program does not exist"
    elif [[ -e $chosen_file ]]; then
        cat -- "$chosen_file"
    fi
}

# plugin_argument [OPTION...]: prints the value of QEMU's -plugin. A comma within an option must be doubled for QEMU.
plugin_argument() {
    local argument=file=${plugin//,/,,} option
    for option; do
        argument+=,${option//,/,,}
    done
    echo "$argument"
}


### Directories that are complete or absent.
#
# Such a directory has a file `stamp` with its recipe and the type, size and path of each file. It is made under another
# name, stamped and renamed, so it is never seen incomplete. A file that is lost or truncated later no longer matches the
# stamp. A browser keeps a cache of its fonts there.

list_contents() {
    (
        cd -- "$1" || exit
        LC_ALL=C find . -path ./tree/var/cache/fontconfig -prune -o ! -type d ! -path ./stamp -printf '%y %s %P\n' | LC_ALL=C sort
    )
}

# is_whole DIRECTORY RECIPE
is_whole() { [[ -f $1/stamp ]] && cmp -s -- "$1/stamp" <(echo "$2" && list_contents "$1"); }

# begin_whole DIRECTORY: makes DIRECTORY.new, an empty directory, for the caller to fill.
begin_whole() {
    [[ ! -e $1 ]] || say "$1 is out of date or has changed since setup made it: making it again"
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

# take_lock: waits until no other script downloads to $PVIO_DIR. The lock is released when the process ends.
take_lock() {
    mkdir -p -- "$PVIO_DIR"
    exec {lock}>"$PVIO_DIR/lock"
    if ! flock -n "$lock"; then
        say "waiting for another setup in $PVIO_DIR"
        flock "$lock"
    fi
}
