# shellcheck shell=bash
# Builds a QEMU of which the mirror has only the source package, once with loadable modules and once without. A QEMU without
# loadable modules exports none of its functions to plugins. Scripts source this file after private.sh.
# shellcheck disable=SC2154 # packages.sh sets `apt_workshop` and `mirror`

# Suites to search for the source package. Debian's unstable also keeps older versions.
source_suites=(sid forky trixie-backports trixie)

# Packages that the build needs besides a C compiler. The programs in Python must be newer than those of the host's release.
build_packages=(ninja-build ccache python3 python3-venv pkg-config libglib2.0-dev libpixman-1-dev libfdt-dev)
build_scripts=(meson python3-pycotap)
build_scripts_suite=trixie

# The features of the tests' guests. Everything else is off, so that the build takes minutes.
# shellcheck disable=SC2054 # the comma is QEMU's
build_options=(--target-list=x86_64-softmmu,i386-softmmu --without-default-features --enable-system --enable-tcg
    --enable-plugins --enable-pixman --enable-fdt=system --disable-install-blobs --disable-debug-info --disable-werror)

# build_qemu VERSION: makes $PVIO_DIR/qemu/VERSION-modules and $PVIO_DIR/qemu/VERSION-plain. They use the firmware in
# $PVIO_DIR/qemu/trixie, which private_qemu must have made before.
build_qemu() {
    local variant recipe work=$PVIO_DIR/build variants=()
    for variant in modules plain; do
        recipe="QEMU $1, $variant: ${build_options[*]}"
        is_whole "$PVIO_DIR/qemu/$1-$variant" "$recipe" || variants+=("$variant")
    done
    ((${#variants[@]})) || return 0
    say "building QEMU $1 (${variants[*]}): this takes about ten minutes on two cores and downloads 80 MB"
    get_source qemu "$1"
    get_build_tools "$work"
    rm -rf -- "$work/source"
    mkdir -p -- "$work/source"
    progress "unpacking the source of QEMU $source_version"
    tar -x -f "$source_file" -C "$work/source" --strip-components=1 --no-same-owner --no-same-permissions ||
        die "cannot unpack ${source_file##*/}"
    # Debian removes the firmware from the source, so the list of firmware files must be empty.
    printf '%s\n' 'roms = []' 'keymap_targets = []' >"$work/source/pc-bios/meson.build"
    for variant in "${variants[@]}"; do
        build_variant "$work" "$1" "$variant"
    done
    rm -rf -- "$work"
}

# build_variant WORK VERSION VARIANT
build_variant() {
    local work=$1 directory=$PVIO_DIR/qemu/$2-$3 options=("${build_options[@]}") log=$PVIO_DIR/qemu/$2-$3.log program
    [[ $3 == plain ]] || options+=(--enable-modules)
    rm -rf -- "$work/source/build"
    mkdir -p -- "$work/source/build" "${directory%/*}"
    progress "configuring QEMU $source_version ($3)"
    (
        build_environment "$work"
        cd -- "$work/source/build"
        ../configure "${options[@]}" --cc="ccache ${CC:-cc}" </dev/null
    ) >"$log" 2>&1 || die "QEMU $source_version ($3) cannot be configured: $(grep -m1 ERROR "$log" || tail -n 1 "$log"); see $log"
    (
        build_environment "$work"
        cd -- "$work/source/build"
        # Builds the modules and the programs, but not QEMU's own tests.
        ninja -t targets all | sed -nE 's/^([^:/]+\.so): .*/\1/p' |
            xargs ninja qemu-system-x86_64 qemu-system-i386
    ) </dev/null 2>&1 | tee -a "$log" | show_steps "building QEMU $source_version ($3)" ||
        die "QEMU $source_version ($3) was not built; see $log"

    begin_whole "$directory"
    for program in qemu-system-x86_64 qemu-system-i386; do
        install_built "$work" "$directory.new" "$program"
    done
    finish_whole "$directory" "QEMU $2, $3: ${build_options[*]}"
    rm -- "$log"
}

# show_steps TEXT: shows ninja's "[N/ALL] …" as progress.
show_steps() {
    local line
    while IFS= read -r line; do
        [[ ! $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || progress "$1: step ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}"
    done
}

# install_built WORK DIRECTORY PROGRAM: copies a program with its modules and the libraries that the host may lack, and makes
# a wrapper for it.
install_built() {
    local work=$1 directory=$2 program=$3 library
    mkdir -p -- "$directory/bin" "$directory/lib" "$directory/modules"
    cp -- "$work/source/build/$program" "$directory/bin"
    strip --strip-unneeded "$directory/bin/$program"
    for library in "$work"/source/build/*.so; do
        [[ ! -e $library ]] || cp -- "$library" "$directory/modules"
    done
    while read -r library; do
        [[ $library != "$work"/* ]] || cp -L -- "$library" "$directory/lib"
    done < <(build_environment "$work" && ldd "$directory/bin/$program" | awk '$2 == "=>" { print $3 }')
    cat >"$directory/$program" <<END
#!/bin/sh
# Runs $program from bin/, with the libraries in lib/ and the firmware of another QEMU.
here=\$(dirname -- "\$(readlink -f -- "\$0")")
firmware=\$here/../trixie/tree/usr/share
export LD_LIBRARY_PATH="\$here/lib"
export QEMU_MODULE_DIR="\$here/modules"
exec "\$here/bin/$program" -L "\$firmware/qemu" -L "\$firmware/seabios" "\$@"
END
    chmod +x -- "$directory/$program"
}

# get_source PACKAGE VERSION: downloads the source of the newest version that starts with VERSION. Sets `source_file` and
# `source_version`.
get_source() {
    local suite found
    for suite in "${source_suites[@]}"; do
        open_sources "$suite"
        found=$(own_apt "sources-$suite" apt-cache showsrc "$1" 2>/dev/null |
            sed -nE "s/^Version: (([0-9]+:)?${2//./\\.}([.+~-].*)?)$/\\1/p" | sort -V | tail -n 1)
        [[ -z $found ]] || break
    done
    [[ -n $found ]] || die "the mirror has no source package of $1 $2 in ${source_suites[*]}"
    source_version=${found#*:}
    source_version=${source_version%%[-+~]*}
    download_source "$suite" "$1" "$found"
}

# download_source SUITE PACKAGE VERSION: downloads the original source, without Debian's changes.
download_source() {
    local log=$apt_workshop/sources.log plan size hash kind percent file
    mkdir -p -- "$apt_workshop/sources"
    plan=$(own_apt "sources-$1" apt-get -qq --print-uris --tar-only source "$2=$3" 2>"$log") ||
        die "cannot find the source of $2 $3: $(apt_complaint "$log")"
    # 'URI' FILE SIZE SHA256:HASH
    read -r _ file size hash <<<"$plan"
    source_file=$apt_workshop/sources/$file
    if ! sha256sum --status -c <<<"${hash#SHA256:}  $source_file" 2>/dev/null; then
        rm -f -- "$source_file"
        while IFS=: read -r kind _ percent _; do
            [[ $kind != dlstatus ]] ||
                progress "downloading the source of $2: $((size * ${percent%.*} / 100000000)) of $(((size + 999999) / 1000000)) MB"
        done < <(cd -- "$apt_workshop/sources" &&
            own_apt "sources-$1" apt-get -q -o APT::Status-Fd=3 --download-only --tar-only source "$2=$3" 3>&1 >"$log" 2>&1)
        wait "$!" || die "cannot download the source of $2: $(apt_complaint "$log")"
    fi
    sha256sum --status -c <<<"${hash#SHA256:}  $source_file" || die "$file does not match its hash: run this again"
}

# open_sources SUITE: makes the source packages of this suite available to own_apt.
open_sources() {
    local state=$apt_workshop/sources-$1
    [[ -n $mirror ]] || find_mirror
    mkdir -p -- "$state/sources.list.d"
    cat >"$state/sources.list.d/pvio.sources" <<END
Types: deb-src
URIs: $mirror
Suites: $1
Components: main
$(signed_by)
END
    progress "reading the list of source packages of $1"
    own_apt "sources-$1" apt-get update &>"$state.log" ||
        die "cannot read the list of source packages of $1: $(apt_complaint "$state.log")"
}

# get_build_tools WORK: makes WORK/tools, whose tree/ has the build's tools and libraries.
get_build_tools() {
    local directory=$1/tools recipe kept
    recipe="$(host_suite): ${build_packages[*]}; $build_scripts_suite: ${build_scripts[*]}"
    ! is_whole "$directory" "$recipe" || return 0
    get_packages "$(host_suite)" "the tools of QEMU's build" install "${build_packages[@]}"
    drop_c_library
    kept=("${packages[@]}")
    get_packages "$build_scripts_suite" Meson download "${build_scripts[@]}"
    packages+=("${kept[@]}")
    begin_whole "$directory"
    unpack_all "$directory.new/tree" "the tools of QEMU's build"
    finish_whole "$directory" "$recipe"
}

# build_environment WORK: makes this shell use the tools and libraries of WORK/tools. Call it in a subshell.
build_environment() {
    # library_path uses it.
    # shellcheck disable=SC2034
    local here=$1/tools tree=$1/tools/tree triplet
    LD_LIBRARY_PATH=$(eval "echo \"$(library_path "$here")\"")
    export LD_LIBRARY_PATH
    export PATH=$tree/usr/bin:$PATH
    export PYTHONPATH=$tree/usr/lib/python3/dist-packages
    export PKG_CONFIG_LIBDIR=${LD_LIBRARY_PATH//://pkgconfig:}/pkgconfig:$tree/usr/share/pkgconfig
    export PKG_CONFIG_SYSROOT_DIR=$tree
    # For libraries and headers that the build does not look up with pkg-config.
    export LIBRARY_PATH=$LD_LIBRARY_PATH
    triplet=$(cd -- "$tree/usr/lib" && echo *-linux-gnu)
    export C_INCLUDE_PATH=$tree/usr/include:$tree/usr/include/$triplet
    # The second build takes most of its objects from the cache of the first.
    export CCACHE_DIR=$1/ccache
}
