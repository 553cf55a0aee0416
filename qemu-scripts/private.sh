# shellcheck shell=bash
# Private copies of QEMU, GRUB's image and compilers, unpacked below $PVIO_DIR. Nothing is installed. Scripts source this.

# shellcheck source-path=SCRIPTDIR source=packages.sh
source "${BASH_SOURCE[0]%/*}/packages.sh"

# The first QEMU with version 4 of the plugin API.
oldest_qemu=9.2

# private_qemu NAME SUITE PACKAGES PROGRAMS: makes $PVIO_DIR/qemu/NAME. Its tree/ has the packages of SUITE and all their
# dependencies, including the C library. Each program has a wrapper.
private_qemu() {
    local directory=$PVIO_DIR/qemu/$1 suite=$2 recipe="$2: $3; $4" wanted programs candidate program
    ! is_whole "$directory" "$recipe" || return 0
    [[ $PVIO_DIR != *[:\;]* ]] || die "$PVIO_DIR: a private QEMU does not work below a path with a colon or a semicolon; name another in PVIO_DIR"
    read -ra wanted <<<"$3"
    read -ra programs <<<"$4"
    open_suite "$suite"
    candidate=$(field "$suite" "${wanted[0]}" Version)
    candidate=${candidate#*:}
    if [[ $distribution != debian ]] && ! at_least "${candidate:-0}" "$oldest_qemu"; then
        die "$suite has QEMU ${candidate:-in no version}, and pvio needs $oldest_qemu or newer: install one, and name it in PVIO_QEMU if it is not on the PATH"
    fi

    get_packages "$suite" "${wanted[0]} ${candidate%%[-+~]*}" install "${wanted[@]}"
    begin_whole "$directory"
    unpack_all "$directory.new/tree" "${wanted[0]} ($suite)"
    for program in "${programs[@]}"; do
        [[ -x $directory.new/tree/usr/bin/$program ]] || die "the packages of $suite have no $program"
        make_qemu_wrapper "$directory.new" "$program"
    done
    finish_whole "$directory" "$recipe"
}

# unpack_all TREE DESCRIPTION: unpacks the packages that get_packages downloaded.
unpack_all() {
    local package count=0
    mkdir -- "$1"
    for package in "${packages[@]}"; do
        progress "unpacking $2: package $((++count)) of ${#packages[@]}"
        # No program reads these.
        unpack "$package" "$1" --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale'
    done
}

# library_path DIRECTORY: prints the directories of shared libraries in DIRECTORY/tree, relative to a wrapper's $here.
library_path() {
    local library libraries=''
    for library in "$1"/tree/{,usr/}lib/*-linux-gnu*; do
        [[ ! -d $library ]] || libraries+="${libraries:+:}\$here/${library#"$1/"}"
    done
    echo "$libraries"
}

# make_qemu_wrapper DIRECTORY PROGRAM [EMULATOR]: makes a wrapper that runs a program with its own distribution's loader and
# libraries. EMULATOR, a word of shell code, runs programs of another processor.
make_qemu_wrapper() {
    local directory=$1 program=$2 emulator=${3:-} loader firmware=''
    # Not lib64/ld-linux…, which is an absolute link out of the tree in older packages.
    loader=$(cd -- "$directory" && find tree -type f -name 'ld-linux*.so.*' -print -quit)
    [[ $program != qemu-system-* ]] ||
        firmware=" -L \"\$here/tree/usr/share/qemu\" -L \"\$here/tree/usr/share/seabios\""
    cat >"$directory/$program" <<END
#!/bin/sh
# Runs QEMU's $program from tree/, with the loader, the libraries, the modules and the firmware there. Nothing is used
# from the host. This directory may be moved.
here=\$(dirname -- "\$(readlink -f -- "\$0")")
export QEMU_MODULE_DIR="\$here/tree/usr/lib/$(basename -- "$(dirname -- "$loader")")/qemu"
exec $emulator"\$here/$loader" --inhibit-cache --library-path "$(library_path "$directory")" "\$here/tree/usr/bin/$program"$firmware "\$@"
END
    chmod +x -- "$directory/$program"
}

# Prints the release of the host's distribution. Debian's unstable may have no name; it is sid.
host_suite() {
    local codename
    codename=$(os_release VERSION_CODENAME)
    echo "${codename:-sid}"
}

# private_tools PACKAGES PROGRAM...: makes $PVIO_DIR/tools/NAME, where NAME is the first of the packages, with these
# packages of the host's release, their dependencies, and a wrapper for each program. The programs use the host's C library
# and headers, which are of the same release.
private_tools() {
    local names name directory suite recipe program package kept=()
    read -ra names <<<"$1"
    name=${names[0]}
    directory=$PVIO_DIR/tools/$name
    suite=$(host_suite)
    recipe="$suite: $*"
    ! is_whole "$directory" "$recipe" || return 0
    get_packages "$suite" "$name" install "${names[@]}"
    # The host's loader fits only the host's C library.
    for package in "${packages[@]}"; do
        [[ ${package##*/} == libc6_* ]] || kept+=("$package")
    done
    packages=("${kept[@]}")
    begin_whole "$directory"
    unpack_all "$directory.new/tree" "$name ($suite)"
    for program in "${@:2}"; do
        [[ -e $directory.new/tree/usr/bin/$program ]] || die "package $name of $suite has no $program"
        make_tool_wrapper "$directory.new" "$program"
    done
    finish_whole "$directory" "$recipe"
}

# make_tool_wrapper DIRECTORY PROGRAM
make_tool_wrapper() {
    local directory=$1 program=$2 arguments=''
    # clang finds its own headers, but needs a GCC directory for those of C++.
    [[ $program != clang* ]] || arguments=" --gcc-toolchain=\"\$here/tree/usr\""
    cat >"$directory/$program" <<END
#!/bin/sh
# Runs $program from tree/, with the libraries there and the host's C library. This directory may be moved.
here=\$(dirname -- "\$(readlink -f -- "\$0")")
export LD_LIBRARY_PATH="$(library_path "$directory")"
export PATH="\$here/tree/usr/bin:\$PATH"
exec "\$here/tree/usr/bin/$program"$arguments "\$@"
END
    chmod +x -- "$directory/$program"
}

# missing_tools: prints the arguments of private_tools for each program that the host lacks. The tests compile pvio.h with
# four compilers, and run pvio top in a terminal.
missing_tools() {
    command -v g++ >/dev/null || echo g++ g++
    command -v clang >/dev/null && command -v clang++ >/dev/null || echo clang clang clang++
    command -v tmux >/dev/null || echo tmux tmux
}

# Makes the tests' QEMUs, and a guest: an image that boots GRUB from a CD-ROM. The tests use these names.
private_test_files() {
    private_qemu trixie trixie 'qemu-system-x86 seabios' 'qemu-system-x86_64 qemu-system-i386'
    private_qemu trixie-backports trixie-backports 'qemu-system-x86 seabios' 'qemu-system-x86_64 qemu-system-i386'
    private_qemu trixie-s390x trixie qemu-system-s390x qemu-system-s390x
    private_qemu bookworm bookworm 'qemu-system-x86 seabios' qemu-system-x86_64
    private_qemu bookworm-user bookworm qemu-user qemu-x86_64
    private_grub
    private_ovmf
}

private_grub() {
    local directory=$PVIO_DIR/grub recipe='trixie: grub-rescue-pc' image=usr/lib/grub-rescue/grub-rescue-cdrom.iso
    ! is_whole "$directory" "$recipe" || return 0
    get_packages trixie "GRUB's rescue image" download grub-rescue-pc
    begin_whole "$directory"
    unpack "${packages[0]}" "$directory.new" "./$image"
    mv -- "$directory.new/$image" "$directory.new/rescue.iso"
    rm -r -- "$directory.new/usr"
    finish_whole "$directory" "$recipe"
}

# UEFI firmware: its flash, and the flash that holds its variables.
private_ovmf() {
    local directory=$PVIO_DIR/ovmf recipe='trixie: ovmf' files=usr/share/OVMF
    ! is_whole "$directory" "$recipe" || return 0
    get_packages trixie 'UEFI firmware' download ovmf
    begin_whole "$directory"
    unpack "${packages[0]}" "$directory.new" "./$files/OVMF_CODE_4M.fd" "./$files/OVMF_VARS_4M.fd"
    mv -- "$directory.new/$files/OVMF_CODE_4M.fd" "$directory.new/code.fd"
    mv -- "$directory.new/$files/OVMF_VARS_4M.fd" "$directory.new/variables.fd"
    rm -r -- "$directory.new/usr"
    finish_whole "$directory" "$recipe"
}
