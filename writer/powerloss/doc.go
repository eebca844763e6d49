// Package powerloss takes the power away from under the program, on real file
// systems, and holds what comes back against the promises of docs/format.md.
// It is made of tests only; nothing imports it.
//
// A kill cannot show a missing fsync: the kernel lives on and writes in the end
// what it was given. So here the file system dies as well, and what is looked
// at is what its journal makes of the disk at the next mount.
//
// # Loop images
//
// Each scenario, a one-shot or a stream on a prepared directory, runs on an
// image of ext4 (data=ordered, and data=writeback with a commit every 300 s)
// and of xfs. A small ptrace(2) tracer stops the real program at the Nth call
// that changes the directory; then FS_IOC_SHUTDOWN without a log flush cuts the
// file system off from its disk, the program is killed, and the image is
// mounted again. That is tried for every N, and once more after the end, with
// three sorts of luck:
//
//   - nothing reaches the disk but what was synced;
//   - another program's fsync has just committed the journal, so that names and
//     sizes are there without their data;
//   - the kernel has just written the data back, so that it is there without
//     names and sizes.
//
// Everything acknowledged, by an exit code or an ack line, must be there and
// whole, and the next writer must heal the rest. Mutants, the program built
// without one fsync, prove that a loss would be seen.
//
// The same call under a stream that lives is a disk that fails: real EIO.
//
// # A machine
//
// In a sweep, PIKA_QEMU_CYCLES times, a guest under qemu runs ingest under load on a
// virtio disk and prints the acknowledgements on its console; qemu is killed at
// the Nth, and the guest is booted again to read its disk.
//
// # Running it
//
// Root, loop devices, mkfs.ext4, mkfs.xfs and ptrace are needed. The mounts are
// made in a mount namespace of the test's own and vanish with it. go test tries
// one point in fifty, so that it takes seconds, and SWEEP=full all of them. For the
// machines, PIKA_QEMU_KERNEL is the directory that testdata/qemu/fetch-kernel filled; qemu-system-x86_64 is needed.
package powerloss
