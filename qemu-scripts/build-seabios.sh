# shellcheck shell=bash
# Builds SeaBIOS and its VGA BIOS on pvio.h, from Debian's source. Scripts source this after private.sh and build-qemu.sh.
# shellcheck disable=SC2154 # build-qemu.sh sets `source_file` and `source_version`

# What the build needs besides a C compiler.
seabios_tools=(make python3)

# The VGA BIOS is for QEMU's device VGA.
seabios_vga_config=(CONFIG_QEMU=y CONFIG_BUILD_VGABIOS=y CONFIG_VGA_BOCHS=y CONFIG_VGA_PCI=y CONFIG_OVERRIDE_PCI_ID=y
    CONFIG_VGA_VID=0x1234 CONFIG_VGA_DID=0x1111)

# seabios_recipe: prints what the built firmware depends on.
seabios_recipe() { echo "SeaBIOS: $(hash_sources "$repo/guest-shim" include seabios)"; }

# build_seabios: makes $PVIO_DIR/seabios, with bios.bin, vgabios.bin, boot.bin (a boot sector that loads Linux) and name.
build_seabios() {
    local directory=$PVIO_DIR/seabios work=$PVIO_DIR/build-seabios recipe patched
    # get_source reads it.
    # shellcheck disable=SC2034
    local source_suites=(trixie bookworm sid)
    recipe=$(seabios_recipe)
    ! is_whole "$directory" "$recipe" || return 0
    say "building SeaBIOS on pvio.h: less than a minute on two cores. Private copies are used of: ${seabios_tools[*]}"
    mkdir -p -- "$work"
    private_build_tools "$work/tools" "the tools of SeaBIOS's build" "${seabios_tools[@]}"
    get_source seabios 1
    rm -rf -- "$work/source" "$work/vga"
    mkdir -p -- "$work/source"
    tar -x -f "$source_file" -C "$work/source" --strip-components=1 --no-same-owner --no-same-permissions ||
        die "cannot unpack ${source_file##*/}"
    patched=$("$pvio" patch-seabios "$work/source") || exit 1
    cp -R -- "$work/source" "$work/vga"
    make_seabios "$work" source out/bios.bin CONFIG_QEMU=y CONFIG_QEMU_HARDWARE=y
    make_seabios "$work" vga out/vgabios.bin "${seabios_vga_config[@]}"
    begin_whole "$directory"
    cp -- "$work/source/out/bios.bin" "$work/vga/out/vgabios.bin" "$directory.new"
    assemble_boot_sector "$work" "$directory.new/boot.bin"
    echo "${patched%%:*}" >"$directory.new/name"
    finish_whole "$directory" "$recipe"
    rm -rf -- "$work"
}

# make_seabios WORK TREE FILE SETTING...: configures WORK/TREE and makes one file of it.
make_seabios() {
    local work=$1 tree=$1/$2 file=$3 log=$1/$2.log settings
    # Its default reads the date and the host's name.
    settings=(-C "$tree" "CC=${CC:-cc}" PYTHON=python3 EXTRAVERSION=-pvio)
    printf '%s\n' "${@:4}" >"$tree/.config"
    progress "building ${file##*/} of SeaBIOS $source_version"
    (
        use_build_tools "$work/tools"
        export PYTHONDONTWRITEBYTECODE=1
        make "${settings[@]}" olddefconfig
        make "${settings[@]}" -j "$(nproc)" "$file"
    ) >"$log" 2>&1 </dev/null ||
        die "SeaBIOS $source_version was not built: $(grep -m1 -i error "$log" || tail -n 1 "$log"); see $log"
    rm -- "$log"
}

# assemble_boot_sector WORK FILE
assemble_boot_sector() {
    local compiler
    read -ra compiler <<<"${CC:-cc}"
    {
        "${compiler[@]}" -m32 -c -o "$1/boot.o" "$repo/guest-shim/seabios/test/boot.S" &&
            ld -m elf_i386 -Ttext=0x7c00 -o "$1/boot.elf" "$1/boot.o" &&
            objcopy -O binary -j .text "$1/boot.elf" "$2"
    } || die "the boot sector was not built"
}
