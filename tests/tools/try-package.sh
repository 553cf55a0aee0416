#!/bin/bash
# Installs pvio's Debian package in a system that lacks pvio, uses what it has, and removes it. Root runs this there.
# qemu-scripts/long/package has put the package and the guest forms.bin beside it.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

die() {
    printf 'try-package: %s\n' "$*" >&2
    exit 1
}

list() { find /usr /etc -xdev \( -type f -o -type l -o -type d \) | LC_ALL=C sort; }

# The package is not for Debian's archive, so no request for it is closed.
lintian --allow-root --suppress-tags initial-upload-closes-no-bugs --fail-on error,warning --tag-display-limit 0 pvio.deb || die 'lintian finds faults'

list >before
dpkg --install pvio.deb

[[ $(pvio --version) == "pvio $(dpkg-query -W -f='${source:Upstream-Version}' pvio)" ]] || die 'the version differs'
plugin=/usr/lib/pvio/libpvio.so
[[ $(pkg-config --variable=plugindir pvio) == "${plugin%/*}" ]] || die 'pkg-config does not know the directory of the plugin'

# QEMU loads the plugin, and the command reads the statistics.
pc=(-machine pc -m 64 -display none -nodefaults -no-reboot -device 'isa-debug-exit,iobase=0xf4,iosize=4')
status=0
qemu-system-x86_64 "${pc[@]}" -plugin "$plugin,stats=stats.json,summary=off" -bios forms.bin || status=$?
((status % 2 == 1)) || die "QEMU ended with status $status"
pvio show stats.json | grep -q '^The 24 forms' || die 'pvio show does not show the statistics'
pvio report stats.json -o report.html
[[ -s report.html ]] || die 'there is no report'

# pvio-call runs, and finds no plugin here. A kernel may lack the mode for the other.
status=0
/usr/lib/pvio/guest/x86_64/pvio-call status || status=$?
((status == 3)) || die "pvio-call ended with status $status"
[[ -x /usr/lib/pvio/guest/i386/pvio-call ]] || die 'there is no pvio-call for i386'

# The header compiles, and pvio test finds the plugin and QEMU.
cat >hello.c <<'END'
#include <pvio.h>

__asm__(".text; .balign 4; .long 0x1badb002, 0, -0x1badb002");
__asm__(".globl _start; _start: mov $0x90000, %esp; jmp test");

void test(void)
{
    pvio_log_string(PVIO_LEVEL_INFO, "hello");
    pvio_exit(0);
}
END
read -ra flags < <(pkg-config --cflags pvio) || true
gcc -m32 -O1 -ffreestanding -fno-pic -no-pie -nostdlib -static ${flags[@]+"${flags[@]}"} -Wl,-Ttext=0x100000 hello.c -o hello.elf
pvio test hello.elf

man --warnings -P cat pvio-show >page || die 'there is no manual page of pvio show'
grep -q 'pvio show' page || die 'the manual page of pvio show is empty'
bash -n /usr/share/bash-completion/completions/pvio

dpkg --purge pvio
list >after
cmp before after || die "files stay behind: $(comm -13 before after)"
