# shellcheck shell=bash
# Packages from the mirror that the host's apt uses, without touching the host's apt or being root. Scripts source this
# after lib.sh.
#
# apt does the work, with a state and a list of sources of its own: it finds the dependencies and verifies the
# signatures exactly as it does for the host. apt_workshop holds that state, and the packages until they are unpacked.

apt_workshop=$PVIO_DIR/apt

# The paths that get_packages leaves.
packages=()

# own_apt STATE PROGRAM ARG...: apt-get or apt-cache with the state in $apt_workshop/STATE. Its sources are the host's
# until STATE/sources.list.d/ exists; then STATE is a suite, as open_suite takes it. The file named by -c is read after
# all of the host's configuration.
own_apt() {
    local state=$apt_workshop/$1
    mkdir -p -- "$state/lists/partial" "$state/archives/partial"
    : >"$state/status" # no package is installed, so that apt lists every dependency, libc included
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
APT::Sandbox::User "root"; // "_apt" may not be allowed to look into this directory
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
    if [[ -d $state/sources.list.d ]]; then
        cat >>"$state/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$state/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "${1%:*}"; // backports are not taken unless they are asked for
APT::Update::Error-Mode "any"; // an index that cannot be had is an error, not a warning
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

# apt_complaint LOG: the first error in what apt wrote, or at least a warning.
apt_complaint() {
    local complaint
    complaint=$(grep -m1 '^E: ' "$1" || grep -m1 '^W: ' "$1" || echo "see $1")
    echo "${complaint#[EW]: }"
}

mirror=''
distribution=''

# Sets mirror, mirror_entry and distribution from the configuration of the host's apt: the entry that serves the
# distribution's own main archive, not its security archive and nobody else's.
find_mirror() {
    local found
    distribution=$(os_release ID)
    [[ $distribution == debian || $distribution == ubuntu ]] ||
        die "this host is neither Debian nor Ubuntu, so nothing can be got from its mirror: install QEMU 9.2 or newer, and name it in PVIO_QEMU if it is not on the PATH"
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null || die "$tool is missing: it is needed to get packages from the host's mirror"
    done
    # `apt-get indextargets` knows every format of the configuration, but speaks only of what has been downloaded: on a
    # host where `apt-get update` never ran, it is run with a state of our own. It may fail for entries that are not needed.
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

# main_archive COMMAND...: "URI|FILE:NUMBER of the entry", from a command that behaves as `apt-get indextargets`.
main_archive() {
    # shellcheck disable=SC2016 # apt replaces these, not the shell
    "$@" --format '$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)|$(SOURCESENTRY)' 2>/dev/null |
        awk -F'|' -v name="$distribution" '
            !found && $1 == "Packages" && tolower($2) == name && tolower($3) == name && $4 == "main" &&
            $5 !~ /-/ && $6 !~ /^cdrom:/ { print $6 "|" $7; found = 1 }'
}

# The keyring that the host's entry names, as a Signed-By field; nothing where it names none, and then apt
# trusts what it trusts for the host. An entry is FILE:NUMBER, with the number of the line, or of the stanza in *.sources.
signed_by() {
    local file=${mirror_entry%:*} number=${mirror_entry##*:}
    if [[ $file == *.sources ]]; then
        # A field goes on in the lines that begin with a space: the key itself may stand there.
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

# open_suite SUITE[:ARCHITECTURE]: apt can speak of this suite after it. Backports build on the suite they are for. The
# architecture is the host's unless it is named.
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

# field SUITE PACKAGE FIELD: from the newest version of a package in a suite that is open.
field() {
    own_apt "$1" apt-cache show --no-all-versions "$2" 2>/dev/null | sed -n "s/^$3: //p"
}

# get_packages SUITE DIRECTORY install|download PACKAGE...: puts packages, with their dependencies or alone, into
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
        # What an interrupted run left is used if it is right; apt itself would look at the size alone.
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
        sha256sum --status -c <<<"${hash#SHA256:}  $debs/$file" || die "$file is not what $suite says it is: run this again"
    done <<<"$plan"
}

# unpack FILE DIRECTORY [TAR-ARGUMENT...]: a package's files, owned by whoever runs this and without set-user-ID bits.
unpack() {
    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --no-same-owner --no-same-permissions "${@:3}" ||
        die "cannot unpack ${1##*/}"
}

# Once everything is unpacked, packages and lists have no further use; a run that fails leaves them for the next.
close_workshop() {
    rm -rf -- "$apt_workshop"
    [[ -z $erase ]] || printf '%s' "$erase" >&2
}
