// Package faulttest tests the program under faults. It kills the program, makes
// its system calls fail, changes its files and simulates a loss of power, at every
// point where that can make a difference. Then it checks that the files keep the
// promises of docs/format.md. The package contains only tests.
//
// The critical moments last only microseconds, so a kill at a random time would
// hardly ever hit one. Instead the tests run the real program under a ptrace(2)
// tracer. The tracer counts the system calls that use the state directory, and
// injects the fault at the Nth.
//
// # Failure model
//
// The failure model is that of package writer: data survives a power loss once it
// is synced, a name survives once its directory is synced, a rename is atomic, and
// a reader sees a short write completely or cut short. Everything else may happen:
//
//	crash_test.go         the program is killed before or after a call, or within a write
//	iofault_test.go       a call fails, before or after its effect; a write is short;
//	                      a call is interrupted; the disk becomes full and stays full
//	recover_test.go       the disk is full, a quota is used up or every change fails, for
//	                      some calls or some time, within the write timeout or longer
//	waiters_test.go       a stream is killed, or stops for some time, while waiters wait
//	signal_test.go        SIGTERM arrives at a call
//	secondwriter_test.go  another process appends at a call
//	seqfile_test.go       the seq file, with its lock, is removed or replaced at a call,
//	                      and another process appends with the new one
//	repair_test.go        a repair of a whole log is killed at a call, or a call fails, also
//	                      on a file system that cannot exchange names
//	attack_test.go        at a call, the owner of the directory replaces a file by a
//	                      link, FIFO, device or directory
//	powerloss_test.go     the power is lost before a call, on ext4 and xfs
//	deaddisk_test.go      the disk fails while a stream is being read
//	qemu_test.go          a whole machine is killed under load
//
// filesystems_test.go runs the same checks, without these faults, on eleven file
// systems, and compares the results with the table in docs/reliability.md. The checks are
// in the program testdata/conformance, which also runs in a virtual machine.
//
// Power losses are simulated on loop devices. FS_IOC_SHUTDOWN cuts the file system
// off from its disk; then the disk is mounted again, as at the next boot. Each
// power loss is tried in three variants. In the first, the disk contains only synced
// data. In the second, it also contains the journal of the file system: new names and
// sizes, without their data. In the third, it contains the synced data and new data,
// without the new names and sizes.
//
// # Checks
//
// The checks (picture_test.go, model_test.go) share no code with the writer:
//
//   - Each artifact is valid for the strictest reader. Only the last line of a log
//     may be torn, and only immediately after a fault.
//   - All earlier artifacts are still there, and all that the program has
//     acknowledged, through the acknowledgements of ingest or its exit code.
//   - Seqs have no gaps and no duplicates, also for a writer that reads only the
//     seq file. The status and the result have their events.
//   - The next writer, an ingest or a one-shot command, repairs everything: it
//     leaves no temporary file, torn line or wrong mode.
//   - After an error the program exits with 0 only if it repeated the call, or if
//     the test lists the error as harmless.
//
// The exit code of wait is checked too: waiters_test.go predicts it for each waiter from the
// files, without the code of wait and of the writer lock. A stream that has written something
// and died before its end must have left its record in writer.lock.
//
// A kill cannot reveal a missing sync, because the kernel keeps the data. Therefore
// durability_test.go follows all calls of a run. It checks that data is synced
// before its file is renamed, that each step of a commit is durable before the next one,
// that all are durable before the acknowledgement, and that a descriptor is not used
// again after a failed sync.
//
// # Process trees
//
// trees_test.go does not inject faults into the program, but runs random process trees
// under run: processes that fork twice, change their group or session, stop, handle or
// ignore signals, close the stream, leave children and zombies, use up the memory of their
// cgroup, or run longer than the timeout. A plan describes each tree. From the plan alone,
// the test predicts the result, and which processes are left. It compares the prediction
// with result.json, with the exit of run, and with the processes in /proc. If they differ,
// the test looks for a smaller plan for which they differ too, and prints it.
//
// # Mutants
//
// mutant_test.go checks the tests themselves: it builds a mutant, that is, the
// program without one safeguard, and the tests must find the consequences. The line
// with the safeguard ends with a marker:
//
//	err = f.file.Sync() //fault:sync-log
//
// A mutant edits the line without knowing its text: for example, it deletes the line
// or makes its condition false. If you rewrite such a line, keep the marker on the
// line that now has the safeguard. TestMutantMarkers fails if a marker is missing or
// if no mutant uses it.
//
// # Points, and how to run all of them
//
// A scenario (scenarios_test.go) is one use of the program on a prepared directory.
// The tests run each scenario twice without a fault; both runs must make the same
// calls. A point is a scenario with one fault at one of these calls. Each test logs
// how many points it tried, how many exist, and how many problems of each kind it
// found. It fails if fewer points exist than when the test was written.
//
//	go test ./writer/faulttest                # a fixed sample, in seconds
//	SWEEP=full go test -v ./writer/faulttest  # all points, in minutes
//	SWEEP=full PIKA_WAITERS=20 go test -run TestWaiters ./writer/faulttest  # 20 waiters at each point
//	PIKA_TREE_SEED=7 PIKA_TREE_PLAN=12 go test -run TestTrees ./writer/faulttest  # one tree
//
// The tests need permission to trace, which many containers do not give. As root
// they also give the attacked directory to another user, and use loop devices, which
// need mkfs.ext4 and mkfs.xfs. TestFileSystems also needs mkfs.btrfs and bindfs.
// TestKilledMachine, TestFileSystems_guest and TestHost_shared_directory run only with
// SWEEP=full. They need qemu-system-x86_64 and a kernel in the directory
// PIKA_QEMU_KERNEL (run testdata/qemu/fetch-kernel to get one). TestKilledMachine kills
// PIKA_QEMU_CYCLES machines. TestFileSystems_guest needs mkfs.f2fs, mkfs.vfat and
// mkfs.exfat. A test that needs something that is missing is skipped.
//
// If a point fails, the test names the scenario, the fault, the call and its number.
// If you add an artifact or a step of a commit, add it to the checks too
// (picture.add, durability.step).
package faulttest
