# shellcheck shell=bash
# A small Debian below $PVIO_DIR, for long parts that need a system of their own. Scripts source this after private.sh.
# shellcheck disable=SC2154 # the other files set `packages`
#
# The system is unpacked, and becomes the root of a mount namespace, which root makes, or any user in a user namespace. It
# shares the host's network, configuration of apt and pip, CA certificates and Rust toolchain, but no downloads and no built
# files. A script that sources this calls enter_if_asked first.

# A script may choose another suite.
: "${system_suite:=trixie}"

# The user who runs the commands, if root runs the script. In a user namespace only the namespace's root exists.
system_user=1000

# make_system NAME PACKAGE...: makes $PVIO_DIR/NAME of Debian's essential packages and these. Their installation scripts do not
# run, so this function makes the files that those would make.
make_system() {
    local name=$1 directory=$PVIO_DIR/$1 wanted=("${@:2}") recipe link tree package owner
    recipe="$system_suite: essential ${wanted[*]}, version 4"
    ! is_whole "$directory" "$recipe" || return 0
    get_packages "$system_suite" "a small system ($name)" install '?essential' "${wanted[@]}"
    begin_whole "$directory"
    tree=$directory.new/tree
    unpack_all "$tree" "a small system ($system_suite)"
    for link in awk:mawk cc:gcc; do
        [[ ! -e $tree/usr/bin/${link#*:} ]] || ln -s -- "${link#*:}" "$tree/usr/bin/${link%:*}"
    done
    cp -- "$tree/usr/share/base-passwd/passwd.master" "$tree/etc/passwd"
    cp -- "$tree/usr/share/base-passwd/group.master" "$tree/etc/group"
    echo "guest:x:$system_user:$system_user::/home:/bin/bash" >>"$tree/etc/passwd"
    [[ ! -e $tree/etc/dpkg/origins/debian ]] || ln -sf -- debian "$tree/etc/dpkg/origins/default"
    touch -- "$tree/etc/"{resolv.conf,hosts,pip.conf}
    mkdir -p -- "$tree/"{etc/ssl/certs,etc/apt,opt/rust,home,tmp,proc,dev,var/tmp,var/lib/dpkg/info}
    # The packages count as installed. dpkg warns of each that has no list of files.
    for package in "${packages[@]}"; do
        dpkg-deb --field "$package"
        printf 'Status: install ok installed\n\n'
        # shellcheck disable=SC2016 # dpkg-deb expands it
        owner=$(dpkg-deb --show --showformat='${Package}' "$package")
        touch -- "$tree/var/lib/dpkg/info/$owner.list" "$tree/var/lib/dpkg/info/$owner:$(dpkg --print-architecture).list"
    done >"$tree/var/lib/dpkg/status"
    ldconfig -r "$tree"
    finish_whole "$directory" "$recipe"
}

# check_namespaces: ends a part that cannot make a system's namespaces here. Sets `namespaces`.
check_namespaces() {
    [[ $(os_release ID) == debian ]] || cannot_run 'this part needs packages of Debian: run it on Debian'
    outer_user=$(id -u)
    rust=$(rustc --print sysroot)
    export outer_user rust
    namespaces=(--mount --fork --kill-child)
    ((outer_user == 0)) || namespaces+=(--user --map-root-user)
    unshare "${namespaces[@]}" true 2>/dev/null ||
        cannot_run "${USER:-this user} may not make namespaces on this host: run this part as root, or allow user namespaces"
}

# in_system NAME USER HOME COMMAND...: runs a command in a system, as "root" or "guest", with HOME of the host as its home.
in_system() { unshare "${namespaces[@]}" "$0" --enter "$@"; }

# enter_if_asked ARGUMENT...: the part of in_system that runs in the namespace.
enter_if_asked() {
    [[ ${1:-} == --enter ]] || return 0
    local root=$PVIO_DIR/$2/tree user=$3 home=$4 path as=()
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount --bind "$home" "$root/home"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t tmpfs tmpfs "$root/var/tmp"
    for path in /etc/resolv.conf /etc/hosts /etc/ssl/certs /etc/apt /etc/pip.conf; do
        [[ ! -e $path ]] || mount --bind -- "$(realpath -- "$path")" "$root$path"
    done
    mount --bind -- "$rust" "$root/opt/rust"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    [[ $user == root ]] || ((outer_user)) || as=(setpriv --reuid="$system_user" --regid="$system_user" --clear-groups)
    # Not chroot: programs in a chroot cannot make user namespaces, and the tests do. pivot_root stacks the old root on the new
    # one, where umount detaches it.
    cd -- "$root" || exit
    pivot_root . .
    umount --lazy .
    cd /
    exec env -i HOME=/home USER="$user" LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/bin:/usr/sbin ${as[@]+"${as[@]}"} "${@:5}"
}
