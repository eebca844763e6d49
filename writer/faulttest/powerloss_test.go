//go:build linux && amd64

package faulttest

import (
	"slices"
	"sync"
	"testing"
)

// disksEach is how many disks of each file system are used at the same time. A point
// mostly waits for the kernel to unmount.
const disksEach = 2

// newDiskBenches creates benches on disks of one file system. They count only the calls
// that change the disk, because power losses between two of those leave the same data.
func newDiskBenches(t *testing.T, program string, fs fileSystem) (all []*bench) {
	t.Helper()
	for range disksEach {
		d := fs.newDisk(t)
		all = append(all, &bench{program: program, base: d.base, below: "guest/run", disk: d, counts: changes})
	}
	return all
}

// losePower returns the job that simulates a power loss before the call c, or after the
// end of the program if c is nil.
func losePower(s *scenario, c *call, with powerLoss) job {
	j := job{s: s, otherKind: !s.ingests(), afterRun: nextBoot(with)} // the next writer is always ingest, which uses every file
	if c == nil {
		j.f = fault{act: nothing, label: ": power lost after the end, on the disk is " + with.name}
		j.check = checkEnded
		return j
	}
	j.f = fault{act: killBefore, at: c.n, label: ": power lost, on the disk is " + with.name}
	j.call, j.check = c.String(), checkKilled
	j.newHook = func(b *bench) func(int) error {
		return func(int) error {
			b.lost = true
			return b.disk.losePower(with, b.dir())
		}
	}
	return j
}

// nextBoot returns a function that loses the power of the disk and mounts it again.
func nextBoot(with powerLoss) func(*bench, *job, *ledger) error {
	return func(b *bench, _ *job, _ *ledger) error {
		if !b.lost {
			if err := b.disk.losePower(with, b.dir()); err != nil {
				return err
			}
		}
		return b.disk.remount()
	}
}

// powerJobs returns all points of a scenario at which the power can be lost.
func powerJobs(s *scenario, calls []*call) (jobs []job) {
	for _, c := range append(slices.Clip(calls), nil) {
		for _, with := range powerLosses {
			jobs = append(jobs, losePower(s, c, with))
		}
	}
	return jobs
}

// sweepDisks tries one in n of the points of the scenarios, on every file system. It
// returns its findings and the number of all points.
func sweepDisks(t *testing.T, program string, n int, all []scenario) (found *tally, points int) {
	t.Helper()
	systems := fileSystems()
	tallies, counts := make([]*tally, len(systems)), make([]int, len(systems))
	var group sync.WaitGroup
	for i, fs := range systems {
		benches := newDiskBenches(t, program, fs)
		group.Go(func() {
			jobs := jobsOnDisk(t, benches, all)
			tallies[i], counts[i] = sweep(t, benches, sample(jobs, n)), len(jobs)
		})
	}
	group.Wait()
	found = newTally()
	for i, ty := range tallies {
		t.Logf("%s: %d points: %v", systems[i].name, ty.total(), ty)
		found.merge(ty, systems[i].name)
		points += counts[i]
	}
	return found, points
}

// jobsOnDisk runs the scenarios without a fault, and returns the points at all calls that
// they make.
func jobsOnDisk(t *testing.T, benches []*bench, all []scenario) (jobs []job) {
	t.Helper()
	calls := make([][]*call, len(all))
	var dryRuns []job
	for i := range all {
		dryRuns = append(dryRuns, dryRun(&all[i], false, func(made []*call) { calls[i] = made }))
	}
	sweep(t, benches, dryRuns)
	for i := range all {
		jobs = append(jobs, powerJobs(&all[i], calls[i])...)
		if len(calls[i]) < all[i].changes {
			t.Errorf("%s: %d calls change the disk, expected at least %d", all[i].name, len(calls[i]), all[i].changes)
		}
	}
	return jobs
}

// TestPowerLoss simulates a power loss before every call that changes the disk.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	needDisks(t)
	program, n := program(t), sampleOneIn(t, 50)
	found, points := sweepDisks(t, program, n, scenarios())
	found.report(t, "power losses", points)
	if minPoints := 3650; points < minPoints {
		t.Errorf("power losses: %d points, expected at least %d", points, minPoints)
	}
}
