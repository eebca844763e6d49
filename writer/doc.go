// Package writer puts the lifecycle artifacts on disk: status.json,
// events.jsonl with its seq file, result.json and rejected.jsonl.
//
// It knows their schema, their bytes, and how each becomes durable. It does
// not know flags, standard streams, the wall clock or where boot IDs come
// from: those are given to it.
//
// # Failure model
//
// The process may be killed between any two system calls, the machine may
// lose power, any call may fail, and other processes may write the same files
// or, where the directory belongs to somebody else, swap them for links, FIFOs
// and devices. Assumed are only:
//
//  1. rename(2) within a directory is atomic for every reader.
//  2. What fsync(2) or fdatasync(2) returned 0 for survives power loss; a name
//     survives once its directory was synced after the name was made.
//  3. write(2) of a few bytes into one page is seen whole or cut short, never
//     mixed.
//  4. flock(2) excludes every writer that asks for it; a writer that does not
//     is treated as hostile.
//
// Atomicity is not durability: a replaced file is whole for every reader from
// the rename on, and durable only after the directory was synced. Every method
// here that returns nil has done both.
//
// # Safety
//
// A file is opened relative to its directory's descriptor, never through a
// symbolic link in its last component and never blocking, and is written in
// place only if it is a regular file with a single link. So nothing outside
// the directory can be written through what stands in it.
package writer
