# shellcheck shell=bash
# The long parts of the tests: programs in long/, which the normal suite does not run. Scripts source this file after lib.sh.
# shellcheck disable=SC2154 # lib.sh sets `scripts` and `repo`
#
# The second line of a part describes it. A line "# inputs:" names the files and directories that it depends on, and
# "# minutes:" how long it takes on two cores. When a part passes, a hash of its inputs is recorded in .ci/passed/PART. It
# is due again when an input changes. A part that cannot run on this machine calls cannot_run, which exits with status 77.

long_parts() { (cd -- "$scripts/long" && printf '%s\n' *); }

part_about() { sed -n '2s/^# //p' "$scripts/long/$1"; }

part_minutes() { sed -n 's/^# minutes: //p' "$scripts/long/$1"; }

# cannot_run REASON: ends a part that cannot run on this machine.
cannot_run() {
    complain "$@"
    exit 77
}

# part_hash PART: prints a hash of the paths and contents of its inputs, and of the part itself.
part_hash() {
    local inputs
    read -ra inputs < <(sed -n 's/^# inputs: //p' "$scripts/long/$1")
    (
        cd -- "$repo" || exit
        find "${inputs[@]}" "qemu-scripts/long/$1" -type f -print0 | LC_ALL=C sort -zu | xargs -0 sha256sum | sha256sum
    ) | cut -d ' ' -f 1
}

# is_due PART: succeeds if an input has changed since the part passed, or if it never passed.
is_due() { [[ $(cat -- "$repo/.ci/passed/$1" 2>/dev/null) != "$(part_hash "$1")" ]]; }

# run_part PART SECONDS: runs a part with a time limit, and records its pass.
run_part() {
    local part=$1 status=0 hash foreground=()
    hash=$(part_hash "$part")
    # With --foreground, ^C on the terminal reaches the part.
    [[ ! -t 0 ]] || foreground=(--foreground)
    say "long part $part: $(part_about "$part") Time limit: $(($2 / 60)) minutes."
    timeout ${foreground[@]+"${foreground[@]}"} "$2" "$scripts/long/$part" "$hash" || status=$?
    ((status != 124)) || complain "long part $part did not end within $(($2 / 60)) minutes"
    ((status == 0)) || return "$status"
    mkdir -p -- "$repo/.ci/passed"
    echo "$hash" >"$repo/.ci/passed/$part"
    say "long part $part: passed, recorded in .ci/passed/$part"
}
