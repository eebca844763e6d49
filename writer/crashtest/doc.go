// Package crashtest kills the program, makes its system calls fail and swaps
// files under it, at every point at which that makes a difference, and holds
// what is left against the promises of docs/format.md. It is made of tests
// only; nothing imports it.
//
// Killing at random shows nothing: the moments that matter are microseconds
// long. So the real program, built once, runs under a ptrace(2) tracer that
// counts the system calls which touch the state directory, over all threads
// with one counter, and stops at the Nth. strace(1) counts for each thread of
// its own, and a Go program is not twice on the same one.
//
// # What is tried
//
// A scenario is one use of the program on a prepared directory: a one-shot or a
// stream, on an empty, a filled or a damaged one. It is rehearsed twice without
// a fault, which must give the same calls, and then run once for each point:
//
//   - killed before the Nth call, after it, or with a part of a write done;
//   - the Nth call fails, before or after its effect, is interrupted, or a write
//     falls short; or the disk is full from there on;
//   - at the Nth call a signal comes, another writer appends, the seq file is
//     taken away, or the owner of the directory puts a link, a FIFO, a device or
//     a directory in an artifact's place.
//
// # What is demanded
//
// A model that shares no code with the writer reads what is left. Every
// artifact loads in the strictest reading, but for one last line of a log that
// may lack its end right after a kill. Nothing that stood there before, and
// nothing that was acknowledged by an ack line or an exit code, is missing. Seq
// has no gap and no repeat, and a writer that trusts the seq file alone would
// make none. Status and result have their events. The next writer, of the same
// kind or the other, heals all of it: no temporary, no torn line, no wrong mode
// is left. An error ends in exit 0 only if the call was made again with success
// or is listed, with the reason, as harmless.
//
// A kill cannot show a missing fsync. So a second model follows all calls of a
// run and what each makes durable, by the failure model of package writer, and
// demands that data is synced before its name is given, each step of a commit
// before the next, all before the acknowledgement, and that a failed sync is
// not tried again on the same descriptor.
//
// Mutants prove that the models bite: the program is built with one care taken
// out, and the sweep must find it.
//
// # Running it
//
// go test takes a fixed share of the points, so that it takes seconds, and with
// SWEEP=full all of them; each test says its share. Tracing must be allowed, which
// many containers do not; as root the attacked directory is another user's and
// devices are planted.
//
// When a point fails, the test names the scenario, the action, the number of
// the call and the call itself. A new artifact or step of a commit needs a
// place in the models (picture.take, disk.step); a new scenario states how many
// calls it has at the least, so that a sweep cannot hollow out unseen.
package crashtest
