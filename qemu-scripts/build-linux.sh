# shellcheck shell=bash
# Builds a Linux kernel with pvio's guest support from Debian's source. Scripts source this after private.sh.
# shellcheck disable=SC2154 # packages.sh sets `packages` and `distribution`

# Suites to search for the source.
linux_suites=(trixie bookworm trixie-backports sid)

# What the build needs besides a C compiler.
linux_tools=(make flex bison bc xz-utils libelf-dev libssl-dev)

linux_files=$repo/guest-shim/linux

# linux_name VERSION ARCH CONFIG: prints the name of a kernel's directory.
linux_name() { if [[ $3 == small ]]; then echo "$1-$2"; else echo "$1-$2-$3"; fi; }

# linux_recipe VERSION ARCH CONFIG: prints what the built kernel depends on.
linux_recipe() { echo "Linux $1, $2, $3: $(hash_sources "$linux_files" .)"; }

# build_linux VERSION ARCH CONFIG: makes $PVIO_DIR/linux/NAME, with bzImage, System.map, config, init and name. The source
# and the objects stay in $PVIO_DIR/linux/work, so that the next build is short.
build_linux() {
    local version=$1 arch=$2 config=$3 name directory work=$PVIO_DIR/linux/work recipe patched duration
    name=$(linux_name "$@")
    directory=$PVIO_DIR/linux/$name
    recipe=$(linux_recipe "$@")
    ! is_whole "$directory" "$recipe" || return 0
    duration='4 to 8 minutes on two cores, 2 GB of disk'
    [[ $config == small ]] || duration='one to two hours on two cores, 6 GB of disk'
    say "building Linux $version for $arch: $duration. Private copies are used of: ${linux_tools[*]}"
    mkdir -p -- "$work"
    private_build_tools "$work/tools" "the tools of Linux's build" "${linux_tools[@]}"
    get_linux_source "$version" "$work/$version"
    patched=$("$pvio" patch-linux "$work/$version") || exit 1
    patched=${patched%%:*}
    [[ $config == small ]] || get_distribution_config "$version" "$arch" "$work/$name.config"
    compile_linux "$work" "$version" "$arch" "$name"
    begin_whole "$directory"
    cp -- "$work/$name/arch/x86/boot/bzImage" "$work/$name/System.map" "$directory.new"
    cp -- "$work/$name/.config" "$directory.new/config"
    compile_init "$arch" "$directory.new/init"
    echo "$patched, $arch" >"$directory.new/name"
    finish_whole "$directory" "$recipe"
}

# has_package SUITE PACKAGE: succeeds if an open suite has the package. apt takes a name that it does not find for a regular
# expression, so that 6.1 would be 6.12, too.
has_package() { field "$1" "$2" Package | grep -qxF "$2"; }

# get_linux_source VERSION DIRECTORY: unpacks Debian's newest source of this version.
get_linux_source() {
    local version=$1 directory=$2 suite archive
    [[ ! -e $directory/Makefile ]] || return 0
    for suite in "${linux_suites[@]}"; do
        open_suite "$suite"
        [[ $distribution == debian ]] || die "$distribution has no package linux-source-$version: this needs Debian"
        ! has_package "$suite" "linux-source-$version" || break
        suite=
    done
    [[ -n $suite ]] || die "Debian has no linux-source-$version in ${linux_suites[*]}"
    get_packages "$suite" "the source of Linux $version" download "linux-source-$version"
    archive=usr/src/linux-source-$version.tar.xz
    rm -rf -- "$directory" "$directory.new"
    mkdir -p -- "$directory.new"
    progress "unpacking the source of Linux $version"
    (
        linux_environment "${directory%/*}"
        dpkg-deb --fsys-tarfile "${packages[0]}" | tar -x -O "./$archive" |
            tar -x -J -C "$directory.new" --strip-components=1 --no-same-owner --no-same-permissions
    ) || die "cannot unpack ${packages[0]##*/}"
    mv -- "$directory.new" "$directory"
}

# get_distribution_config VERSION ARCH FILE: makes FILE of Debian's configuration for its general kernel.
get_distribution_config() {
    local version=$1 arch=$2 file=$3 suite name=linux-config-$1 config
    case $arch in
        i386) config=config.i386_none_686-pae ;;
        x86_64) config=config.amd64_none_amd64 ;;
    esac
    for suite in "${linux_suites[@]}"; do
        [[ $arch != i386 ]] || suite+=:i386
        # Newer releases have no kernels for i386.
        (open_suite "$suite") 2>/dev/null || continue
        open_suite "$suite"
        ! has_package "$suite" "$name" || break
        suite=
    done
    [[ -n $suite ]] || die "Debian has no $name for $arch in ${linux_suites[*]}: choose another --kernel, or --config small"
    get_packages "$suite" "Debian's configuration of Linux $version" download "$name"
    (
        linux_environment "${file%/*}"
        dpkg-deb --fsys-tarfile "${packages[0]}" | tar -x -O --wildcards "./usr/src/$name/$config*" | xz -d
    ) >"$file" || die "Debian's $name has no $config"
}

# linux_environment WORK: makes this shell use the tools of WORK/tools. For a subshell.
linux_environment() {
    local tree=$1/tools/tree triplet
    use_build_tools "$1/tools"
    triplet=$(cd -- "$tree/usr/lib" && echo *-linux-gnu)
    export LIBRARY_PATH=$LD_LIBRARY_PATH
    export C_INCLUDE_PATH=$tree/usr/include:$tree/usr/include/$triplet
    export M4=$tree/usr/bin/m4 BISON_PKGDATADIR=$tree/usr/share/bison
    # The same source makes the same image.
    export KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=pvio KBUILD_BUILD_HOST=pvio
}

# compile_linux WORK VERSION ARCH NAME: compiles the source in WORK/VERSION to objects in WORK/NAME, with the configuration
# WORK/NAME.config if that exists.
compile_linux() {
    local work=$1 version=$2 arch=$3 objects=$1/$4 log=$1/$4.log settings
    settings=(-C "$work/$version" "O=$objects" "ARCH=$arch" "CC=${CC:-cc}" "HOSTCC=${CC:-cc}")
    mkdir -p -- "$objects"
    progress "configuring Linux $version for $arch"
    (
        linux_environment "$work"
        if [[ -e $objects.config ]]; then
            # Modules, their signatures and debug information are not needed. Of settings that are there twice, the last counts.
            cat -- "$objects.config" "$linux_files/config/distribution.config" "$linux_files/config/machine.config" >"$objects/.config"
        else
            make "${settings[@]}" tinyconfig
            cat -- "$linux_files/config/machine.config" >>"$objects/.config"
        fi
        make "${settings[@]}" olddefconfig
    ) >"$log" 2>&1 </dev/null || die "Linux $version cannot be configured: $(grep -m1 -i error "$log"); see $log"
    grep -qx CONFIG_PVIO_GUEST=y "$objects/.config" || die "Linux $version: CONFIG_PVIO_GUEST cannot be set; see $objects/.config"
    (
        linux_environment "$work"
        make "${settings[@]}" -j "$(nproc)" bzImage
    ) </dev/null 2>&1 | tee -a "$log" | show_objects "building Linux $version for $arch" ||
        die "Linux $version was not built: $(grep -m1 -i 'error' "$log"); see $log"
    rm -- "$log"
}

# show_objects TEXT: shows the lines "CC …" of make as progress.
show_objects() {
    local line count=0
    while IFS= read -r line; do
        [[ ! $line =~ ^\ *(CC|AS)\ + ]] || progress "$1: file $((++count))"
    done
}

# compile_init ARCH FILE: compiles the test guest's program.
compile_init() {
    local bits=-m64 compiler
    [[ $1 != i386 ]] || bits=-m32
    read -ra compiler <<<"${CC:-cc}"
    "${compiler[@]}" "$bits" -O2 -std=gnu11 -ffreestanding -fno-pic -fno-stack-protector -fno-tree-loop-distribute-patterns \
        -fcf-protection=none -nostdlib -static -no-pie -Wl,--build-id=none -s -o "$2" "$linux_files/test/init.c" ||
        die "the test guest's program was not built"
}
