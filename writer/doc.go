// Package writer writes the files of a state directory: status.json, result.json,
// events.jsonl with its seq file, and rejected.jsonl. docs/format.md describes
// them.
//
// A StatusFile and a ResultFile are replaced as a whole. An EventLog and a
// RejectLog are appended to, after a torn last line was repaired. A Dir has all of
// them. Several processes may write the same directory: the lock of the EventLog
// orders what is appended.
//
// The package does not know flags, standard streams, the wall clock or the boot
// ID. Its callers pass what it needs.
//
// # Failure model
//
// The process may be killed between any two system calls, the machine may lose
// power, and any call may fail. Other processes may write the same files. If the
// directory belongs to another user, that user may replace them with links, FIFOs
// and devices. The package relies only on the following:
//
//  1. rename(2) within a directory is atomic for every reader.
//  2. Data for which fsync(2) or fdatasync(2) returned 0 survives a loss of power.
//     A name survives if its directory was synced after the name was created.
//  3. A reader sees a write(2) of a few bytes into one page either completely or
//     cut short, never mixed with another.
//  4. flock(2) excludes every process that asks for the lock. A process that
//     writes without it is treated as hostile.
//
// Atomic does not mean durable: after the rename every reader sees the complete
// new file, but it is durable only after the directory was synced. A method that
// returns nil has done both.
//
// # Safety
//
// Package dirfs opens every file: relative to the descriptor of its directory, not
// through a symbolic link in its last component, and without blocking. A file is
// written in place only if it is a regular file with a single link. So a process
// that owns the directory cannot make the writer change a file outside it.
package writer
