// Package faulttest kills the program, makes its system calls fail, interferes
// with its files and takes its power away, at every point where that can make a
// difference. Then it compares what is left with the promises of docs/format.md.
// It consists of tests; nothing imports it.
//
// The moments that matter are microseconds long, so a kill at a random time shows
// nothing. Instead the real program, built once, runs under a ptrace(2) tracer,
// which counts the system calls that touch the state directory and stops at the
// Nth.
//
// # Failure model
//
// It is that of package writer: what a sync confirmed survives a power loss, a
// name survives once its directory was synced, a rename is atomic, and a short
// write is either whole or cut. Everything else may happen:
//
//	crash_test.go         the program is killed before or after a call, or within a write
//	iofault_test.go       a call fails, before or after its effect; a write falls short;
//	                      a call is interrupted; the disk becomes full and stays so
//	signal_test.go        SIGTERM arrives at a call
//	secondwriter_test.go  another process appends at a call
//	seqfile_test.go       the seq file, with its lock, is unlinked or replaced at a call
//	attack_test.go        the directory's owner puts a link, FIFO, device or directory in
//	                      the place of an artifact at a call
//	powerloss_test.go     the power is lost before a call, on ext4 and xfs
//	deaddisk_test.go      the disk dies under a stream that continues
//	qemu_test.go          a whole machine is killed under load
//
// A power loss is tried on loop devices, with FS_IOC_SHUTDOWN: the file system is
// cut off from its disk, and mounted again as at the next boot. Three sorts of luck
// decide what is on the disk: only what was synced; also the journal, so that there
// are names and sizes without their data; or also the data, without names and
// sizes.
//
// # What is checked
//
// The model (picture_test.go, model_test.go) shares no code with the writer. It
// demands of what is left:
//
//   - Each artifact is valid for the strictest reader. Only a log may lack the end
//     of its last line, and only right after a fault.
//   - Nothing is missing that was there before, or that was acknowledged by an
//     acknowledgement of ingest or by an exit code.
//   - Seqs have no gap and no repetition, also for a writer that relies on the seq
//     file alone. The status and the result have their events.
//   - The next writer, of the same kind or the other, repairs all of it: no
//     temporary, torn line or wrong mode is left.
//   - After an error the program exits with 0 only if it repeated the call, or if
//     the error is listed as harmless, with the reason.
//
// A kill cannot show that a sync is missing, because the kernel lives on. So
// durability_test.go follows all calls of a run, and demands that data is synced
// before its file is renamed, each step of a commit before the next, and everything
// before the acknowledgement; and that after a failed sync the descriptor is not
// used again.
//
// # Mutants
//
// mutant_test.go proves that the sweeps see what they look for: it builds the
// program without one safeguard, and a sweep must find what goes wrong. The line
// that has the safeguard ends with a comment:
//
//	err = f.file.Sync() //fault:sync-log
//
// A mutant changes the line by its form (it drops it, or makes its condition false,
// for example), not by the names in it. Who rewrites such a line keeps the marker
// on the line that has the safeguard now; TestMutantMarkers fails if a marker is
// missing, or if no mutant uses it.
//
// # Points, and how to run all of them
//
// A scenario (scenarios_test.go) is one use of the program on a prepared directory.
// It is run twice without a fault and must make the same calls. A point is one
// scenario with one fault at one of these calls. Each test logs how many points it
// tried, how many there are, and what it found of each kind; it fails if there are
// fewer points than there were when it was written.
//
//	go test ./writer/faulttest                # a fixed share, in seconds
//	SWEEP=full go test -v ./writer/faulttest  # all points, in minutes
//
// Tracing must be allowed, which many containers forbid. Root is needed to give the
// attacked directory to another user, and for the loop devices, with mkfs.ext4 and
// mkfs.xfs. Machines are killed only with SWEEP=full, PIKA_QEMU_CYCLES=N times; they
// need qemu-system-x86_64, and PIKA_QEMU_KERNEL with the directory that
// testdata/qemu/fetch-kernel filled. The tests that lack something are skipped.
//
// When a point fails, the test names the scenario, the fault, the number of the
// call and the call itself. A new artifact, or a new step of a commit, needs its
// place in the model (picture.take, durability.step).
package faulttest
