# shellcheck shell=bash
# Downloads packages from the host's mirror without root and without changing the host's apt. Scripts source this file
# after lib.sh.
#
# apt finds the dependencies and verifies the signatures exactly as for the host, but with a separate state and list of
# sources. That state, and the packages until they are unpacked, are in apt_workshop.

apt_workshop=$PVIO_DIR/apt

# The paths of the packages that get_packages downloaded.
packages=()

# own_apt STATE PROGRAM ARG...: runs apt-get or apt-cache with the state in $apt_workshop/STATE. If STATE/sources.list.d/
# exists, apt uses those sources, and STATE is a suite, as in open_suite; otherwise it uses the host's sources. apt reads the
# file that -c names after the host's configuration.
own_apt() {
    local state=$apt_workshop/$1
    mkdir -p -- "$state/lists/partial" "$state/archives/partial"
    : >"$state/status" # no package counts as installed, so apt lists every dependency, including libc
    cat >"$state/apt.conf" <<END
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state";
Dir::Cache::archives "$state/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Acquire::ForceHash "SHA256";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
#clear Acquire::Languages;
Acquire::Languages { "none"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root"; // "_apt" may have no access to this directory
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
    if [[ -d $state/sources.list.d ]]; then
        cat >>"$state/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$state/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "${1%:*}"; // backports only on request
APT::Update::Error-Mode "any"; // an index that cannot be downloaded is an error
END
    fi
    if [[ $1 == *:* ]]; then
        cat >>"$state/apt.conf" <<END
APT::Architecture "${1#*:}";
#clear APT::Architectures;
END
    fi
    LC_ALL=C "$2" -c "$state/apt.conf" "${@:3}"
}

# apt_complaint LOG: prints apt's first error, or else its first warning.
apt_complaint() {
    local complaint
    complaint=$(grep -m1 '^E: ' "$1" || grep -m1 '^W: ' "$1" || echo "see $1")
    echo "${complaint#[EW]: }"
}

mirror=''
distribution=''

# Sets mirror, mirror_entry and distribution from the configuration of the host's apt: the entry of the distribution's main
# archive, not of its security archive or of a third party.
find_mirror() {
    local found
    distribution=$(os_release ID)
    [[ $distribution == debian || $distribution == ubuntu ]] ||
        die "pvio cannot download QEMU for this host, which is neither Debian nor Ubuntu: install QEMU 9.2 or newer, and name it in PVIO_QEMU if it is not on the PATH"
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null || die "$tool is missing: it is needed to download packages from the host's mirror"
    done
    # `apt-get indextargets` parses every format of the configuration, but lists only downloaded indexes. If `apt-get update`
    # never ran on the host, run it with our own state. It may fail for other entries.
    mkdir -p -- "$apt_workshop"
    found=$(main_archive apt-get indextargets)
    if [[ -z $found ]]; then
        progress "reading the host's package sources"
        own_apt host apt-get update &>"$apt_workshop/host.log" || true
        found=$(main_archive own_apt host apt-get indextargets)
    fi
    [[ -n $found ]] ||
        die "the host's apt has no usable entry for the main archive of $distribution: $(apt_complaint "$apt_workshop/host.log")"
    mirror=${found%%|*}
    mirror_entry=${found#*|}
}

# main_archive COMMAND...: prints "URI|FILE:NUMBER of the entry". COMMAND behaves like `apt-get indextargets`.
main_archive() {
    # shellcheck disable=SC2016 # apt replaces these, not the shell
    "$@" --format '$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)|$(SOURCESENTRY)' 2>/dev/null |
        awk -F'|' -v name="$distribution" '
            !found && $1 == "Packages" && tolower($2) == name && tolower($3) == name && $4 == "main" &&
            $5 !~ /-/ && $6 !~ /^cdrom:/ { print $6 "|" $7; found = 1 }'
}

# Prints the keyring of the host's entry as a Signed-By field. Prints nothing if the entry names none; apt then trusts the
# host's keys. An entry is FILE:NUMBER, with the number of the line, or of the stanza in *.sources.
signed_by() {
    local file=${mirror_entry%:*} number=${mirror_entry##*:}
    if [[ $file == *.sources ]]; then
        # A field continues in lines that start with a space, which may have the key itself.
        grep -v '^#' "$file" | awk -v RS= -v FS='\n' -v wanted="$number" 'NR == wanted {
            for (i = 1; i <= NF; i++) {
                if ($i !~ /^[ \t]/) inside = tolower($i) ~ /^signed-by:/
                if (inside) print $i
            }
        }'
    else
        sed -nE "${number}s/^[^]]*[[ ]signed-by=([^] ]+).*/Signed-By: \\1/p" "$file"
    fi
}

# open_suite SUITE[:ARCHITECTURE]: makes the packages of this suite available to own_apt. A suite of backports includes the
# suite that it extends. The architecture is the host's unless it is named.
declare -A open_suites=()
open_suite() {
    local suite=$1 suites=${1%:*} components=main state=$apt_workshop/$1
    [[ -z ${open_suites[$suite]:-} ]] || return 0
    [[ -n $mirror ]] || find_mirror
    [[ $suites != *-backports ]] || suites="${suites%-backports} $suites"
    [[ $distribution == debian ]] || components='main universe'
    mkdir -p -- "$state/sources.list.d"
    cat >"$state/sources.list.d/pvio.sources" <<END
Types: deb
URIs: $mirror
Suites: $suites
Components: $components
$(signed_by)
END
    progress "reading the package lists of $suite"
    own_apt "$suite" apt-get update &>"$state.log" ||
        die "cannot read the package lists of $suite: $(apt_complaint "$state.log")"
    open_suites[$suite]=yes
}

# field SUITE PACKAGE FIELD: prints a field of the newest version of a package in an open suite.
field() {
    own_apt "$1" apt-cache show --no-all-versions "$2" 2>/dev/null | sed -n "s/^$3: //p"
}

# get_packages SUITE DESCRIPTION install|download PACKAGE...: downloads packages, with their dependencies or alone, to
# $apt_workshop/debs, and sets `packages` to the paths of their files.
get_packages() {
    local suite=$1 what=$2 how=$3 log=$apt_workshop/debs.log debs=$apt_workshop/debs
    local plan file size hash name kind percent total=0 wanted=() apt
    open_suite "$suite"
    mkdir -p -- "$debs"
    # Each line of the plan: 'URI' FILE SIZE SHA256:HASH
    plan=$(own_apt "$suite" apt-get -qq --print-uris "$how" "${@:4}" 2>"$log") ||
        die "$suite has no $what: $(apt_complaint "$log")"
    packages=()
    while read -r _ file size hash; do
        packages+=("$debs/$file")
        # Files of an interrupted run are reused if their hash is right; apt would check only the size.
        if ! sha256sum --status -c <<<"${hash#SHA256:}  $debs/$file" 2>/dev/null; then
            rm -f -- "$debs/$file"
            name=${file%_*}
            name=${name/_/=}
            wanted+=("${name//%3a/:}")
            total=$((total + size))
        fi
    done <<<"$plan"
    if ((${#wanted[@]})); then
        while IFS=: read -r kind _ percent _; do
            [[ $kind != dlstatus ]] ||
                progress "downloading $what ($suite): $((total * ${percent%.*} / 100000000)) of $(((total + 999999) / 1000000)) MB"
        done < <(cd -- "$debs" && own_apt "$suite" apt-get -q -o APT::Status-Fd=3 download "${wanted[@]}" 3>&1 >"$log" 2>&1)
        apt=$!
        wait "$apt" || die "cannot download $what: $(apt_complaint "$log")"
    fi
    while read -r _ file size hash; do
        sha256sum --status -c <<<"${hash#SHA256:}  $debs/$file" || die "$file does not match its hash in $suite: run this again"
    done <<<"$plan"
}

# unpack FILE DIRECTORY [TAR-ARGUMENT...]: unpacks a package's files, owned by the user and without set-user-ID bits.
unpack() {
    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --no-same-owner --no-same-permissions "${@:3}" ||
        die "cannot unpack ${1##*/}"
}

# Deletes packages and lists after everything is unpacked. A run that fails keeps them for the next run.
close_workshop() {
    rm -rf -- "$apt_workshop"
    [[ -z $erase ]] || printf '%s' "$erase" >&2
}
