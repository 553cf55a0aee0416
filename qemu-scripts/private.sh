# shellcheck shell=bash
# Private copies of QEMU, GRUB's image and compilers, unpacked below $PVIO_DIR. Nothing is installed. Scripts source this file.

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
        die "$suite has ${candidate:+QEMU }${candidate:-no QEMU}, and pvio needs QEMU $oldest_qemu or newer: install one, and name it in PVIO_QEMU if it is not on the PATH"
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

# drop_c_library: removes the C library and its headers from `packages`. The host's C compiler uses the host's; another copy
# must not hide them.
drop_c_library() {
    local package kept=()
    for package in "${packages[@]}"; do
        case ${package##*/} in
            libc6_* | libc6-dev_* | linux-libc-dev_*) ;;
            *) kept+=("$package") ;;
        esac
    done
    packages=("${kept[@]}")
}

# unpack_all TREE DESCRIPTION: unpacks the packages that get_packages downloaded.
unpack_all() {
    local package count=0
    mkdir -- "$1"
    for package in "${packages[@]}"; do
        progress "unpacking $2: package $((++count)) of ${#packages[@]}"
        # No program reads these directories.
        unpack "$package" "$1" --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale'
    done
}

# library_path DIRECTORY: prints the directories of shared libraries in DIRECTORY/tree, relative to a wrapper's $here.
library_path() {
    local library libraries=''
    # libpulse finds its own library by an absolute path.
    for library in "$1"/tree/{,usr/}lib/*-linux-gnu*{,/pulseaudio}; do
        [[ ! -d $library ]] || libraries+="${libraries:+:}\$here/${library#"$1/"}"
    done
    echo "$libraries"
}

# make_qemu_wrapper DIRECTORY PROGRAM [EMULATOR]: makes a wrapper that runs a program with its own distribution's loader and
# libraries. EMULATOR, a word of shell code, runs programs of another processor.
make_qemu_wrapper() {
    local directory=$1 program=$2 emulator=${3:-} loader firmware=''
    # Not lib64/ld-linux…: in older packages that is an absolute link, which leads out of the tree.
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

# Prints the release of the host's distribution. If os-release names none, the host runs Debian's unstable, sid.
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
    local directory=$1 program=$2 arguments='' path=tree/usr/bin/$2 fonts=''
    if [[ $program == chromium* ]]; then
        # In bin is a script that names the path at which the package is installed.
        path=tree/usr/lib/chromium/$program
        # The host may have no fonts.
        # shellcheck disable=SC2016 # the wrapper expands it
        fonts='export FONTCONFIG_SYSROOT="$here/tree"'
    fi
    # clang finds its own headers, but needs a GCC directory for those of C++.
    [[ $program != clang* ]] || arguments=" --gcc-toolchain=\"\$here/tree/usr\""
    cat >"$directory/$program" <<END
#!/bin/sh
# Runs $program from tree/, with the libraries there and the host's C library. This directory may be moved.
here=\$(dirname -- "\$(readlink -f -- "\$0")")
export LD_LIBRARY_PATH="$(library_path "$directory")"
export PATH="\$here/tree/usr/bin:\$PATH"
$fonts
exec "\$here/$path"$arguments "\$@"
END
    chmod +x -- "$directory/$program"
}

# private_build_tools DIRECTORY DESCRIPTION PACKAGE...: makes DIRECTORY, whose tree/ has the packages of the host's release
# and their dependencies, for use_build_tools.
private_build_tools() {
    local directory=$1 description=$2 recipe
    recipe="$(host_suite): ${*:3}"
    ! is_whole "$directory" "$recipe" || return 0
    get_packages "$(host_suite)" "$description" install "${@:3}"
    drop_c_library
    begin_whole "$directory"
    unpack_all "$directory.new/tree" "$description"
    finish_whole "$directory" "$recipe"
}

# use_build_tools DIRECTORY: makes this shell use the programs and libraries of DIRECTORY/tree. Call it in a subshell.
use_build_tools() {
    # library_path uses it.
    # shellcheck disable=SC2034
    local here=$1
    LD_LIBRARY_PATH=$(eval "echo \"$(library_path "$1")\"")
    export LD_LIBRARY_PATH PATH=$1/tree/usr/bin:$PATH
    unset -v MAKEFLAGS MFLAGS
}

# hash_sources DIRECTORY PATH...: prints a hash of the files below these paths in DIRECTORY, documents left out.
hash_sources() {
    local hash
    hash=$(cd -- "$1" && find "${@:2}" -type f ! -name '*.md' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
    echo "${hash%% *}"
}

# missing_tools: prints "PACKAGES|PROGRAMS", the arguments of private_tools, for programs that the tests need and the host
# lacks: compilers for pvio.h, Python, which reads exports, tmux, the terminal of pvio top, socat and minicom, which use a
# serial port, and a browser, which shows reports.
missing_tools() {
    command -v g++ >/dev/null || echo 'g++|g++'
    command -v clang >/dev/null && command -v clang++ >/dev/null || echo 'clang|clang clang++'
    command -v tmux >/dev/null || echo 'tmux|tmux'
    command -v socat >/dev/null || echo 'socat|socat'
    command -v minicom >/dev/null || echo 'minicom|minicom'
    python3 -m pip --version &>/dev/null || echo 'python3 python3-pip|python3'
    command -v chromium-headless-shell >/dev/null || echo 'chromium-headless-shell fonts-dejavu-core|chromium-headless-shell'
}

# Makes private copies of the tests' QEMUs, of GRUB's rescue CD-ROM (a guest), of programs that make images and of UEFI firmware. The tests use these names.
private_test_files() {
    private_qemu trixie trixie 'qemu-system-x86 seabios' 'qemu-system-x86_64 qemu-system-i386'
    private_qemu trixie-backports trixie-backports 'qemu-system-x86 seabios' 'qemu-system-x86_64 qemu-system-i386'
    private_qemu trixie-s390x trixie qemu-system-s390x qemu-system-s390x
    private_qemu bookworm bookworm 'qemu-system-x86 seabios' qemu-system-x86_64
    private_qemu bookworm-user bookworm qemu-user qemu-x86_64
    private_grub
    grub_tools
    uefi_firmware 64
    uefi_firmware 32
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

# Makes a private copy of the programs that make bootable images: GRUB for BIOS and UEFI, and mtools.
grub_tools() {
    private_tools 'mtools grub-common grub-pc-bin grub-efi-amd64-bin' grub-mkimage mformat mcopy mmd
}

# ovmf_directory BITS: prints the directory of the private copy of UEFI firmware.
ovmf_directory() {
    local name=ovmf
    (($1 == 64)) || name=ovmf-ia32
    echo "$PVIO_DIR/$name"
}

# uefi_firmware BITS: makes a private copy of UEFI firmware: the flash with its code, and the flash with its variables.
uefi_firmware() {
    local directory package=ovmf files=usr/share/OVMF code=OVMF_CODE_4M.fd variables=OVMF_VARS_4M.fd suite=trixie recipe
    directory=$(ovmf_directory "$1")
    if (($1 == 32)); then
        package=ovmf-ia32 code=OVMF32_CODE_4M.secboot.fd variables=OVMF32_VARS_4M.fd
    fi
    [[ $(os_release ID) == debian ]] || suite=$(host_suite)
    recipe="$suite: $package"
    ! is_whole "$directory" "$recipe" || return 0
    get_packages "$suite" "UEFI firmware ($package)" download "$package"
    begin_whole "$directory"
    unpack "${packages[0]}" "$directory.new" "./$files/$code" "./$files/$variables"
    mv -- "$directory.new/$files/$code" "$directory.new/code.fd"
    mv -- "$directory.new/$files/$variables" "$directory.new/variables.fd"
    rm -r -- "$directory.new/usr"
    finish_whole "$directory" "$recipe"
}

# Makes a private copy of the Python packages with which the tests read pvio's exports and check its pages: Perfetto's
# definitions, DuckDB, and a package that carries the script of axe-core. pip downloads them from the index in the host's
# configuration.
private_python() {
    local directory=$PVIO_DIR/python recipe python=$PVIO_DIR/tools/python3/python3
    # All that these need is among them.
    local packages=(perfetto==0.59.1 protobuf==7.36.2 duckdb==2.0.1 axe-playwright-python==0.1.8)
    [[ -x $python ]] || python=$(command -v python3)
    recipe="$("$python" --version), by a wrapper: ${packages[*]}"
    ! is_whole "$directory" "$recipe" || return 0
    say 'downloading Python packages for the tests: about 60 MB'
    begin_whole "$directory"
    # Without compiled files: they would change directories that must match their stamps.
    PYTHONDONTWRITEBYTECODE=1 "$python" -m pip install --quiet --no-compile --no-deps --disable-pip-version-check \
        --no-warn-script-location --root-user-action ignore --target "$directory.new/packages" "${packages[@]}" ||
        die "pip cannot download the Python packages ${packages[*]}: see its message above, and check the index in its configuration"
    cat >"$directory.new/python3" <<END
#!/bin/sh
# Runs Python with these packages.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="\$(dirname -- "\$(readlink -f -- "\$0")")/packages"
exec "$python" "\$@"
END
    chmod +x -- "$directory.new/python3"
    finish_whole "$directory" "$recipe"
}
