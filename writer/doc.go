// Package writer writes the files of a state directory: status.json, result.json,
// events.jsonl with its seq file, and rejected.jsonl. docs/format.md describes
// them.
//
// A StatusFile and a ResultFile are always replaced as a whole. An EventLog, a
// RejectLog and a BootList are appended to, after a torn line (an incomplete last line,
// left by an interrupted write) has been repaired. A Dir gives access to all of them.
// Several processes may write to the same directory: the lock of the EventLog orders
// their writes.
//
// The package uses no flags, standard streams, wall clock or boot ID. Its callers
// pass the times and IDs that it writes.
//
// # Failure model
//
// The process may be killed between any two system calls, the machine may lose
// power, and any call may fail. Other processes may write to the same files. If
// the directory belongs to another user, that user may replace its files by links,
// FIFOs and devices. The package relies only on the following:
//
//  1. rename(2) within a directory is atomic for every reader.
//  2. Data survives a loss of power once fsync(2) or fdatasync(2) has returned 0.
//     A file name survives once its directory has been synced.
//  3. A reader sees a write(2) of a few bytes into one page either completely or
//     cut short, never mixed with another.
//  4. Only one process at a time holds an exclusive flock(2) on a file. A process
//     that writes without the lock is treated as hostile. Writers lock the seq file.
//     If that is removed or replaced by accident, a second lock, on the log itself,
//     keeps them apart.
//
// Atomic does not mean durable: after the rename every reader sees the complete
// new file, but the rename survives a crash only once the directory has been
// synced. A method that returns nil has done both.
//
// # Safety
//
// Package dirfs opens every file relative to the descriptor of its directory,
// without following a symbolic link and without blocking. The package writes to
// an existing file only if it is a regular file with a single link. Therefore the
// owner of the directory cannot make the writer change a file outside it.
package writer
