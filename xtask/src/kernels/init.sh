#!/busybox/busybox sh
# The first process of a machine of the kernel matrix: runs the tests and powers the machine off.
# The lines that begin with "underpass-vm:" are for xtask, which reads the console.

/busybox/busybox --install -s /busybox
# The tests' programs are the real ones; busybox only stands in for what else a script needs.
export PATH=/usr/sbin:/usr/bin:/busybox

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ip link set lo up
while read -r module; do
    insmod "/modules/$module" || echo "underpass-vm: cannot load $module"
done </modules/order

echo "underpass-vm: up $(uname -r)"
. /tests/environment
lists=/tests/list
[ -z "$UNDERPASS_TEST_END" ] || lists="$lists /tests/list-of-ends"
# shellcheck disable=SC2086
cat $lists >/tmp/list
failed=0
while read -r test arguments; do
    echo "underpass-vm: runs $test"
    # Not its own arguments: split into words.
    # shellcheck disable=SC2086
    (cd /tests && exec "./$test" $arguments </dev/null 2>&1) || failed=1
done </tmp/list

# Whatever the tests say: the kernel must not have complained.
if dmesg | grep -E 'WARNING:|BUG:|Oops|refcount_t'; then
    echo "underpass-vm: the kernel complained"
    dmesg | tail -n 60
    failed=1
fi
echo "underpass-vm: exit $failed"
poweroff -f
