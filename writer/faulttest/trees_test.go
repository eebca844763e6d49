//go:build linux && amd64

package faulttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A planNode is a process of a tree, which testdata/tree carries out: it sets its signals,
// starts its children one after another, writes its reports, waits for the processes in
// Gone to end, and ends. A process starts its next child when everything below the
// previous one is in place, so the tree is complete when the first process ends.
type planNode struct {
	ID        int
	Place     string           `json:",omitempty"` // "" (the group of the parent), "setpgid", "new session" (from the start), or "setsid" (calls it)
	Ignore    []syscall.Signal `json:",omitempty"`
	Handle    []syscall.Signal `json:",omitempty"` // exits with Code
	Note      []syscall.Signal `json:",omitempty"` // creates the file "noted", and continues
	Code      int              `json:",omitempty"`
	OnSignal  *planNode        `json:",omitempty"` // a handled signal starts it before the exit
	Close     bool             `json:",omitempty"` // closes all descriptors
	StopFirst bool             `json:",omitempty"` // stops itself, and the parent continues it
	Children  []*planNode      `json:",omitempty"`
	Reports   []string         `json:",omitempty"`
	Gone      []int            `json:",omitempty"`
	End       string           // see the constants below
	Signal    syscall.Signal   `json:",omitempty"`
	Reap      bool             `json:",omitempty"` // the parent reaps it; otherwise it stays a zombie
}

// How a process ends.
const (
	endExit      = "exit"       // with Code
	endKill      = "kill"       // by a signal to itself
	endKillGroup = "kill group" // by a signal to its group
	endHang      = "hang"       // not by itself
	endStop      = "stop"       // stops itself, and does not end by itself
	endOrphan    = "orphan"     // when its parent has ended
	endEat       = "eat memory" // when the memory cgroup is full
)

// A treePlan is a tree and what happens to it from outside.
type treePlan struct {
	Timeout   time.Duration    `json:",omitempty"` // 0 if run has no --timeout
	KillAfter time.Duration    `json:",omitempty"`
	Signals   []syscall.Signal `json:",omitempty"` // sent to run when the tree is complete, the last one ends the first process
	Tail      bool             `json:",omitempty"` // run has --tail
	Pause     bool             `json:",omitempty"` // SIGTSTP and SIGCONT are sent to run first
	Init      bool             `json:",omitempty"` // run is PID 1 of a PID namespace
	Memory    bool             `json:",omitempty"` // run is in a memory cgroup, and the first process fills it
	Root      *planNode
}

// lateTimeout is a --timeout that no tree reaches.
const lateTimeout = time.Hour

// timesOut reports whether --timeout ends the tree.
func (p *treePlan) timesOut() bool { return p.Timeout > 0 && p.Timeout < lateTimeout }

// A planner makes a random plan.
type planner struct {
	*rand.Rand
	nodes int // so far
	limit int // of nodes
}

// planTree returns the plan with this number. It depends only on the seed and the number.
func planTree(seed, number uint64) *treePlan {
	r := &planner{Rand: rand.New(rand.NewPCG(seed, number))}
	r.limit = 1 + r.IntN(12)
	plan := &treePlan{Root: r.root()}
	root := plan.Root
	if r.IntN(6) == 0 {
		plan.Timeout = lateTimeout
	}
	switch kind := r.IntN(20); {
	case kind < 8:
		root.End, root.Code = endExit, r.code()
	case kind < 11:
		root.End, root.Signal = endKill, r.fatalSignal()
	case kind < 12:
		root.End, root.Signal = endKillGroup, pick(r, unix.SIGKILL, unix.SIGTERM, unix.SIGUSR2)
	case kind < 15:
		root.End = endHang
		r.outside(plan)
	default:
		root.End = pick(r, endHang, endHang, endStop)
		r.onTerm(root)
		plan.Timeout = time.Duration(200+r.IntN(300)) * time.Millisecond
		plan.KillAfter = time.Duration(50+r.IntN(150)) * time.Millisecond
		if root.endsAtTerm() {
			plan.KillAfter = longKillAfter
		}
	}
	plan.Tail = r.IntN(8) == 0
	switch {
	case number%100 == 50:
		root.End, root.StopFirst, root.Handle, root.OnSignal = endEat, false, nil, nil
		*plan = treePlan{Root: root, Memory: true}
	case len(plan.Signals) == 0 && r.IntN(10) == 0:
		plan.Init = true
	}
	if !plan.timesOut() {
		for _, n := range root.all()[1:] {
			n.OnSignal = nil // it would start while run counts
		}
	}
	return plan
}

// longKillAfter is longer than any process takes to end after SIGTERM.
const longKillAfter = time.Minute

// endsAtTerm reports whether each process ends soon after SIGTERM, without SIGKILL.
func (n *planNode) endsAtTerm() bool {
	return !slices.ContainsFunc(n.all(), func(m *planNode) bool {
		return len(m.Ignore) > 0 || m.OnSignal != nil || (m.End == endStop && m != n)
	})
}

func pick[T any](r *planner, choices ...T) T { return choices[r.IntN(len(choices))] }

// root returns the first process with its children, without an end.
func (r *planner) root() *planNode {
	n := r.node()
	n.Close = r.IntN(8) == 0
	n.Place = pick(r, "", "", "", "setpgid") // a group leader cannot call setsid; setpgid changes nothing
	r.children(n, 0, false)
	if !n.Close {
		n.Reports = append(n.Reports, pick(r, nil, nil, nil, []string{"STATE=completed"}, []string{"STATE=failed MESSAGE=m"}, []string{"STATE=stopped"})...)
	}
	return n
}

func (r *planner) node() *planNode {
	n := &planNode{ID: r.nodes, Reap: r.IntN(2) == 0, Code: r.code()}
	r.nodes++
	for range r.IntN(3) {
		n.Reports = append(n.Reports, pick(r, "STATE=ready", "STATE=unreachable MESSAGE=m", "KIND=ready"))
	}
	return n
}

func (r *planner) code() int { return pick(r, 0, 1, r.IntN(256), 255) }

// fatalSignal returns a signal that ends a process by default.
func (r *planner) fatalSignal() syscall.Signal {
	for {
		s := syscall.Signal(1 + r.IntN(64))
		switch s {
		case unix.SIGCHLD, unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGWINCH, 32, 33: // 32 and 33 are for the C library
		default:
			return s
		}
	}
}

// onTerm chooses what a process does at SIGTERM.
func (r *planner) onTerm(n *planNode) {
	switch r.IntN(4) {
	case 0:
		n.Ignore = append(n.Ignore, unix.SIGTERM)
	case 1:
		n.Handle = append(n.Handle, unix.SIGTERM)
		if r.IntN(2) == 0 {
			n.OnSignal = &planNode{ID: r.nodes, Place: pick(r, "", "setpgid", "new session", "setsid"), End: endHang}
			r.nodes++
		}
	}
}

// outside chooses the signals to run.
func (r *planner) outside(plan *treePlan) {
	root := plan.Root
	plan.Pause, root.StopFirst = r.IntN(4) == 0, r.IntN(4) == 0
	all := []syscall.Signal{unix.SIGTERM, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGABRT, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGSYS, unix.SIGTRAP}
	last := pick(r, all...)
	if s := pick(r, all...); s != last && r.IntN(2) == 0 {
		root.Note = append(root.Note, s)
		plan.Signals = append(plan.Signals, s)
	}
	if r.IntN(2) == 0 {
		root.Handle = append(root.Handle, last)
		if r.IntN(4) == 0 {
			root.OnSignal = &planNode{ID: r.nodes, Place: pick(r, "setpgid", "new session", "setsid"), End: endHang}
			r.nodes++
		}
	}
	plan.Signals = append(plan.Signals, last)
}

// children adds random children. In a session of their own (see liveNode), a stopped
// process must not have a parent that ends: the kernel would continue it with SIGHUP.
func (r *planner) children(n *planNode, depth int, ownSession bool) {
	for r.nodes < r.limit && r.IntN(5) > 0 {
		child := r.node()
		child.Place = pick(r, "", "", "setpgid", "new session", "setsid")
		child.Close = r.IntN(3) == 0
		child.StopFirst = r.IntN(5) == 0
		inOwn := ownSession || child.Place == "new session" || child.Place == "setsid"
		if depth < 3 && r.IntN(2) == 0 {
			r.children(child, depth+1, inOwn)
		}
		switch kind := r.IntN(20); {
		case kind < 6:
			child.End = endHang
			r.onTerm(child)
		case kind < 8 && (!inOwn || (!ownSession && len(child.Children) == 0)):
			child.End = endStop
		case kind < 13:
			child.End, child.Signal = endKill, r.fatalSignal()
		case kind < 16:
			child.End = endOrphan
		default:
			child.End = endExit
		}
		if child.endsEarly() {
			n.Gone = append(n.Gone, child.orphans()...)
		}
		n.Children = append(n.Children, child)
	}
}

// endsEarly reports whether a child ends before its parent continues.
func (n *planNode) endsEarly() bool { return n.End == endExit || n.End == endKill }

// orphans returns the processes that end because this process ends.
func (n *planNode) orphans() (ids []int) {
	for _, child := range n.Children {
		if child.End == endOrphan {
			ids = append(append(ids, child.ID), child.orphans()...)
		}
	}
	return ids
}

// all returns the process and all below it.
func (n *planNode) all() []*planNode {
	nodes := []*planNode{n}
	for _, child := range n.Children {
		nodes = append(nodes, child.all()...)
	}
	if n.OnSignal != nil {
		nodes = append(nodes, n.OnSignal)
	}
	return nodes
}

// A view is how a tree ended, as the plan predicts it, or as result.json and /proc show it.
// Where the end depends on a race, the prediction has a range.
type view struct {
	Code, RunCode    int    // in the result, and the exit code of run
	RunSignal        string // that ended run
	Outcome          string
	Signals          []string // one of them; "" for none
	Reported         []string // one of them; "" for none
	Reason           string
	MinLeft, MaxLeft int
	MinEvents        int
	MaxEvents        int
	Alive            []int // the processes that are left when run has exited
	MayDie           []int // of Alive
	Kills            int   // of the OOM killer
}

// A fate is the state of a process at the time when run counts the processes that are left.
type fate int

const (
	gone  fate = iota
	dying      // it ends at this time
	alive
)

// A predictor computes the end of a tree from its plan.
type predictor struct {
	plan    *treePlan
	fates   map[int]fate
	groups  map[int]int  // of a process; the ID of its leader
	own     map[int]bool // whether a process is in another session than run
	orphans map[int]int  // the parents of processes that end with them
	events  int
}

// predict returns the expected end. complete is false if the timeout came before all
// processes were in place (isComplete).
func predict(plan *treePlan, complete bool) view {
	root := plan.Root
	p := &predictor{plan, map[int]fate{}, map[int]int{}, map[int]bool{}, map[int]int{}, 2}
	p.below(root, dying, 0, false, !root.Close)
	v := view{MinEvents: p.events, MaxEvents: p.events, Signals: []string{""}, Reported: []string{""}}
	switch {
	case plan.timesOut():
		p.fates = nil
		v.Code, v.Reason, v.Signals = 124, "timeout", []string{"SIGTERM"}
		switch isLong := plan.KillAfter == longKillAfter; {
		case len(root.Ignore) > 0:
			v.Signals = []string{"SIGKILL"}
		case len(root.Handle) > 0 && isLong:
			v.Signals = []string{""}
		case len(root.Handle) > 0:
			v.Signals = []string{"", "SIGKILL"}
		}
		if !complete {
			v.MinEvents, v.Signals = 2, append(v.Signals, "SIGTERM")
		}
	case len(plan.Signals) > 0:
		last := plan.Signals[len(plan.Signals)-1]
		if len(root.Handle) > 0 {
			v.Code = root.Code
			if root.OnSignal != nil {
				p.fates[root.OnSignal.ID] = alive
				p.groups[root.OnSignal.ID] = root.OnSignal.ID
				p.own[root.OnSignal.ID] = root.OnSignal.Place != "setpgid"
			}
			break
		}
		v.Code, v.Signals = 128+int(last), []string{signalText(last)}
		if last == unix.SIGTERM {
			v.Reason = "terminated"
		}
		if last == unix.SIGINT {
			v.RunSignal = "SIGINT"
		}
	case root.End == endExit:
		v.Code = root.Code
	case root.End == endEat:
		v.Code, v.Signals, v.Kills = 137, []string{"SIGKILL"}, 1
	default:
		v.Code, v.Signals = 128+int(root.Signal), []string{signalText(root.Signal)}
	}
	v.RunCode = v.Code
	if v.RunSignal != "" {
		v.RunCode = -1
	}
	v.Outcome = "failed"
	if v.Code == 0 {
		v.Outcome = "completed"
	}
	if len(root.Reports) > 0 && !root.Close {
		state, _, _ := strings.Cut(root.Reports[len(root.Reports)-1], " ")
		_, state, _ = strings.Cut(state, "=")
		if (state == "completed" || state == "failed") && state != v.Outcome {
			v.Reported = []string{state}
		}
		if !complete {
			v.Reported = append(v.Reported, "")
		}
	}
	for id, f := range p.fates {
		if plan.Init { // the kernel kills what is left when PID 1 exits
			continue
		}
		if f == alive {
			v.MinLeft++
			v.Alive = append(v.Alive, id)
			if p.getsHangup(id) {
				v.MayDie = append(v.MayDie, id)
			}
		}
		if f != gone {
			v.MaxLeft++
		}
	}
	slices.Sort(v.Alive)
	slices.Sort(v.MayDie)
	return v
}

// below predicts what becomes of the processes below n, which has the fate f.
func (p *predictor) below(n *planNode, f fate, group int, own, reports bool) {
	for _, line := range n.Reports {
		switch {
		case !reports, line == "STATE=completed", strings.HasPrefix(line, "STATE=failed"): // the last event counts already
		case line == "STATE=stopped": // again after the result
			p.events += 2
		default:
			p.events++
		}
	}
	for _, child := range n.Children {
		inGroup, inOwn := group, own
		switch child.Place {
		case "setpgid":
			inGroup = child.ID
		case "new session", "setsid":
			inGroup, inOwn = child.ID, true
		}
		var its fate
		switch child.End {
		case endHang, endStop:
			its = alive
		case endOrphan:
			its = f
			p.orphans[child.ID] = n.ID
		}
		if its == alive && inGroup == 0 && p.isEnded(child) {
			its = dying
		}
		p.fates[child.ID], p.groups[child.ID], p.own[child.ID] = its, inGroup, inOwn
		p.below(child, its, inGroup, inOwn, reports && !child.Close)
	}
}

// isEnded reports whether the signals to the group of the first process end this one.
// While a process is stopped, only SIGKILL does.
func (p *predictor) isEnded(n *planNode) bool {
	signals := p.plan.Signals
	if p.plan.Root.End == endKillGroup {
		signals = []syscall.Signal{p.plan.Root.Signal}
	}
	return slices.ContainsFunc(signals, func(s syscall.Signal) bool {
		return !slices.Contains(n.Ignore, s) && (n.End != endStop || p.plan.Pause || s == unix.SIGKILL)
	})
}

// getsHangup reports whether a process may end when run exits. Its group is then orphaned
// (setpgid(2)), and the kernel sends SIGHUP to the group if one process of it is stopped.
// An orphan ends if its parent does.
func (p *predictor) getsHangup(id int) bool {
	parent, isOrphan := p.orphans[id]
	if isOrphan && p.getsHangup(parent) {
		return true
	}
	if p.own[id] {
		return false
	}
	return slices.ContainsFunc(p.plan.Root.all(), func(n *planNode) bool {
		return n.End == endStop && n != p.plan.Root && p.groups[n.ID] == p.groups[id] && p.fates[n.ID] != gone
	})
}

func signalText(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", s)
}

// agrees returns the differences between the prediction and got.
func (want view) agrees(got view) error {
	var errs []error
	check := func(what string, ok bool) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	check("outcome", got.Outcome == want.Outcome)
	check("exit code", got.Code == want.Code)
	check("exit code of run", got.RunCode == want.RunCode && got.RunSignal == want.RunSignal)
	check("signal", slices.Contains(want.Signals, got.Signals[0]))
	check("reason", got.Reason == want.Reason)
	check("kills of the OOM killer", got.Kills == want.Kills)
	check("reported outcome", slices.Contains(want.Reported, got.Reported[0]))
	check("number of events", want.MinEvents <= got.MinEvents && got.MinEvents <= want.MaxEvents)
	check("processes left according to the result", want.MinLeft <= got.MinLeft && got.MinLeft <= want.MaxLeft)
	check("processes left according to /proc", want.mayLeave(got.Alive))
	return errors.Join(errs...)
}

// isEnding reports whether there are processes that must end.
func (want view) isEnding(ids []int) bool {
	return slices.ContainsFunc(ids, func(id int) bool { return !slices.Contains(want.Alive, id) })
}

// mayLeave reports whether these processes may be left.
func (want view) mayLeave(ids []int) bool {
	if want.isEnding(ids) {
		return false
	}
	for _, id := range want.Alive {
		if !slices.Contains(ids, id) && !slices.Contains(want.MayDie, id) {
			return false
		}
	}
	return true
}

// A grove runs trees.
type grove struct {
	program, tree string
	init          []string // the command that starts another one as PID 1; nil if that is not allowed
	count         atomic.Int64
	skipped       atomic.Int64 // trees that need a namespace or a cgroup that this machine does not allow
	incomplete    atomic.Int64 // trees that were not complete when the timeout came
}

// treeLimit is how long a tree may take. It is less than longKillAfter.
const treeLimit = 50 * time.Second

// treeVar has MARK.ID of a process of a tree.
const treeVar = "PIKA_TREE"

// run runs a plan, and returns how it should have ended and how it ended.
func (g *grove) run(dir string, plan *treePlan) (want, got view, err error) {
	mark := fmt.Sprintf("%d-%d-%d", os.Getpid(), time.Now().UnixNano(), g.count.Add(1))
	state, processes := filepath.Join(dir, "state"), filepath.Join(dir, "processes")
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return want, got, err
	}
	defer stderr.Close()
	text, err := json.Marshal(plan.Root)
	if err := errors.Join(err, os.Mkdir(processes, 0o700)); err != nil {
		return want, got, err
	}
	args := []string{"run", "--state-dir", state}
	if plan.Timeout > 0 {
		args = append(args, "--timeout", plan.Timeout.String())
	}
	if plan.Tail {
		args = append(args, "--tail", "5")
	}
	if plan.KillAfter > 0 {
		args = append(args, "--kill-after", plan.KillAfter.String())
	}
	argv := append(append([]string{g.program}, args...), "--", g.tree, string(text))
	switch {
	case plan.Init && g.init != nil:
		argv = append(slices.Clone(g.init), argv...)
	case plan.Memory:
		group, err := newMemoryGroup()
		if err != nil {
			g.skipped.Add(1)
			return want, got, nil
		}
		defer group.remove()
		argv = append([]string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group.dir}, argv...)
	case plan.Init:
		g.skipped.Add(1)
		return want, got, nil
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), treeVar+"="+mark+".0", "PIKA_TREE_DIR="+processes)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	if err := cmd.Start(); err != nil {
		return want, got, err
	}
	defer killTree(mark) // before the cgroup is removed
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if len(plan.Signals) > 0 {
		if err := plan.signal(cmd.Process.Pid, processes); err != nil {
			return want, got, errors.Join(err, cmd.Process.Kill(), <-ended)
		}
	}
	select {
	case <-ended:
	case <-time.After(treeLimit):
		return want, got, errors.Join(errors.New("run does not end"), cmd.Process.Kill(), <-ended)
	}
	left := treeProcesses(mark)
	complete := plan.Root.isComplete(processes)
	if !complete {
		g.incomplete.Add(1)
	}
	want = predict(plan, complete)
	for end := time.Now().Add(treeLimit); !plan.timesOut() && want.isEnding(ids(left)) && time.Now().Before(end); left = treeProcesses(mark) {
		time.Sleep(20 * time.Millisecond) // for a process that is ending
	}
	got, err = readView(state)
	got.Alive = ids(left)
	got.RunCode = cmd.ProcessState.ExitCode()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		got.RunSignal = signalText(status.Signal())
	}
	return want, got, errors.Join(err, want.agrees(got))
}

// memoryLimit is the memory of a cgroup, enough for all processes but one that fills it.
const memoryLimit = "100M"

// A memoryGroup is a cgroup with a limit of its memory.
type memoryGroup struct{ dir string }

// newMemoryGroup creates a cgroup below that of this process, with cgroup v1 or v2.
func newMemoryGroup() (g memoryGroup, err error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return g, err
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		mount, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		switch {
		case len(fields) < 3:
			continue
		case fields[0] == "0":
			mount, limit = "/sys/fs/cgroup", "memory.max"
		case fields[1] != "memory":
			continue
		}
		g.dir, err = os.MkdirTemp(filepath.Join(mount, fields[2]), "trees")
		if err != nil {
			continue
		}
		err = os.WriteFile(filepath.Join(g.dir, limit), []byte(memoryLimit), 0o600)
		if err == nil {
			return g, nil
		}
		g.remove()
	}
	return g, errors.New("no memory cgroup can be created")
}

// remove removes the cgroup. The processes in it have got SIGKILL.
func (g memoryGroup) remove() {
	for end := time.Now().Add(treeLimit); os.Remove(g.dir) != nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// isComplete reports whether each process has started its children and written its reports.
// If not, a timeout has ended one before.
func (n *planNode) isComplete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fmt.Sprintf("up.%d", n.ID)))
	return err == nil && !slices.ContainsFunc(n.Children, func(child *planNode) bool { return !child.isComplete(dir) })
}

// signal waits until the tree is complete, and sends the signals of the plan to run.
func (p *treePlan) signal(run int, dir string) error {
	exists := func(name string) func() bool {
		return func() bool {
			_, err := os.Stat(filepath.Join(dir, name))
			return err == nil
		}
	}
	root := 0
	stopped := func() bool { return processStat(root).state == "T" }
	running := func() bool { return !stopped() }
	send := func(s syscall.Signal) error { return unix.Kill(run, s) }
	resume := func() error {
		return errors.Join(await("the stop of the first process", stopped), send(unix.SIGCONT), await("the end of the stop", running))
	}
	err := await("the first process", exists("0"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "0"))
	if err != nil {
		return err
	}
	root, err = strconv.Atoi(string(text))
	if p.Root.StopFirst {
		err = errors.Join(err, resume())
	}
	err = errors.Join(err, await("the complete tree", exists("up.0")))
	if p.Pause {
		err = errors.Join(err, send(unix.SIGTSTP), resume())
	}
	err = errors.Join(err, await("run to reap orphans", func() bool { return zombies(run) == 0 }))
	for i, s := range p.Signals {
		if i > 0 { // signals that arrive together have no order
			err = errors.Join(err, await("the first signal", exists("noted")))
		}
		err = errors.Join(err, send(s))
	}
	return err
}

// await waits for an event in a tree.
func await(what string, is func() bool) error {
	for end := time.Now().Add(treeLimit); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("waited in vain for %s", what)
		}
	}
	return nil
}

// A stat is a part of /proc/PID/stat.
type stat struct {
	state  string
	parent int
}

func processStat(pid int) (s stat) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, fields, _ := strings.Cut(string(text), ") ")
	_, _ = fmt.Sscan(fields, &s.state, &s.parent)
	return s
}

// pids returns the process IDs in /proc.
func pids() (all []int) {
	names, _ := os.ReadDir("/proc")
	for _, name := range names {
		if pid, err := strconv.Atoi(name.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// zombies returns how many zombies have this parent.
func zombies(parent int) (n int) {
	for _, pid := range pids() {
		if s := processStat(pid); s.parent == parent && s.state == "Z" {
			n++
		}
	}
	return n
}

// treeProcesses returns the processes of a tree that run: their process IDs, and their IDs
// in the plan. A zombie has no environment.
func treeProcesses(mark string) map[int]int {
	left := map[int]int{}
	before := []byte("\x00" + treeVar + "=" + mark + ".")
	for _, pid := range pids() {
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		_, after, found := bytes.Cut(append([]byte{0}, environ...), before)
		if found {
			text, _, _ := bytes.Cut(after, []byte{0})
			left[pid], _ = strconv.Atoi(string(text))
		}
	}
	return left
}

func ids(processes map[int]int) []int { return slices.Sorted(maps.Values(processes)) }

// killTree kills what is left of a tree.
func killTree(mark string) {
	for left := treeProcesses(mark); len(left) > 0; left = treeProcesses(mark) {
		for pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// readView reads the files of a state directory.
func readView(dir string) (v view, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		return view{Signals: []string{""}, Reported: []string{""}}, err
	}
	var result struct {
		Status   string
		ExitCode *int `json:"exit_code"`
		Details  struct {
			Signal, Reason, Reported string
			Left                     *int `json:"left_running"`
			Kills                    int  `json:"oom_kills"`
		}
	}
	events, logErr := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	err = errors.Join(logErr, json.Unmarshal(text, &result))
	v = view{Outcome: result.Status, Signals: []string{result.Details.Signal}, Reason: result.Details.Reason, Reported: []string{result.Details.Reported},
		MinEvents: bytes.Count(events, []byte("\n")), Kills: result.Details.Kills}
	if result.ExitCode == nil {
		err = errors.Join(err, errors.New("no exit code in the result"))
	} else {
		v.Code = *result.ExitCode
	}
	if result.Details.Left != nil {
		v.MinLeft = *result.Details.Left
		if v.MinLeft == 0 {
			err = errors.Join(err, errors.New("details.left_running is 0"))
		}
	}
	return v, err
}

// smaller returns the plans with one subtree or property less.
func (p *treePlan) smaller() (plans []*treePlan) {
	for i := range p.Root.all() {
		for j := range 8 {
			smaller := p.clone()
			n := smaller.Root.all()[i]
			changed := false
			switch {
			case j == 0 && len(n.Children) > 0:
				n.Children, n.Gone, changed = nil, nil, true
			case j == 1 && len(n.Reports) > 0:
				n.Reports, changed = nil, true
			case j == 2 && n.Close:
				n.Close, changed = false, true
			case j == 3 && n.StopFirst:
				n.StopFirst, changed = false, true
			case j == 4 && n.OnSignal != nil:
				n.OnSignal, changed = nil, true
			case j == 5 && n.Place != "":
				n.Place, changed = "", true
			case j == 6 && len(n.Children) > 1:
				n.Children, changed = n.Children[1:], true
			case j == 7 && len(n.Children) > 1:
				n.Children, changed = n.Children[:len(n.Children)-1], true
			}
			if changed {
				smaller.setGone(smaller.Root)
				plans = append(plans, smaller)
			}
		}
	}
	return plans
}

// setGone computes the processes in Gone again.
func (p *treePlan) setGone(n *planNode) {
	n.Gone = nil
	for _, child := range n.Children {
		p.setGone(child)
		if child.endsEarly() {
			n.Gone = append(n.Gone, child.orphans()...)
		}
	}
}

func (p *treePlan) clone() *treePlan {
	text, err := json.Marshal(p)
	c := new(treePlan)
	if err := errors.Join(err, json.Unmarshal(text, c)); err != nil {
		panic(err)
	}
	return c
}

// The trees that TestTrees runs. The variables choose other ones:
//
//	PIKA_TREE_SEED=7 go test -run TestTrees ./writer/faulttest
//	PIKA_TREE_PLAN=1234 go test -run TestTrees ./writer/faulttest
const (
	treeSeed    = 1
	sampleTrees = 200
	allTrees    = 2000
	shrinkTime  = time.Minute // for each plan that fails
	treeWorkers = 8           // most trees wait most of the time
)

// TestTrees runs random process trees under run. What result.json contains must agree with
// what the plan predicts, and with the processes in /proc.
func TestTrees(t *testing.T) {
	g := &grove{program: testenv.Program(t), tree: filepath.Join(testenv.Shared(), "tree")}
	testenv.Must(t, testenv.Build(g.tree, "./testdata/tree"))
	seed, first, n := uint64(treeSeed), uint64(0), uint64(sampleTrees)
	if os.Getenv("SWEEP") != "" {
		n = allTrees
	}
	if text := os.Getenv("PIKA_TREE_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		testenv.Must(t, err)
	}
	if text := os.Getenv("PIKA_TREE_PLAN"); text != "" {
		var err error
		first, err = strconv.ParseUint(text, 10, 64)
		testenv.Must(t, err)
		n = 1
	}
	asInit := []string{"unshare", "--pid", "--fork", "--mount-proc"}
	if exec.Command(asInit[0], append(asInit[1:], "true")...).Run() == nil {
		g.init = asInit
	}
	start, top := time.Now(), testenv.TempDir(t)
	numbers := make(chan uint64)
	var workers sync.WaitGroup
	var failed, processes atomic.Int64
	kinds := sync.Map{} // of failures
	for range treeWorkers {
		workers.Go(func() {
			for number := range numbers {
				plan := planTree(seed, number)
				processes.Add(int64(len(plan.Root.all())))
				problem := g.try(top, plan, time.Now().Add(shrinkTime))
				if problem == "" {
					continue
				}
				kind, _, _ := strings.Cut(problem, "\n")
				_, known := kinds.LoadOrStore(kind, true)
				failed.Add(1)
				if !known {
					t.Errorf("PIKA_TREE_SEED=%d PIKA_TREE_PLAN=%d: %s", seed, number, problem)
				}
			}
		})
	}
	for i := range n {
		numbers <- first + i
	}
	close(numbers)
	workers.Wait()
	t.Logf("trees: %d with %d processes in %v, %d wrong; %d were not complete at their timeout, %d need a namespace or cgroup that is not allowed",
		n, processes.Load(), time.Since(start).Round(time.Second), failed.Load(), g.incomplete.Load(), g.skipped.Load())
	if skipped := g.skipped.Load(); skipped > 0 && testenv.NoSkip() {
		t.Errorf("%d trees were skipped", skipped)
	}
	if n > 1 && uint64(g.incomplete.Load()) > n/8 {
		t.Error("too many trees were not complete at their timeout")
	}
}

// try runs a plan. If it fails, try looks for a smaller plan that fails too, until the time
// has come, and describes it.
func (g *grove) try(top string, plan *treePlan, until time.Time) (problem string) {
	dir, err := os.MkdirTemp(top, "")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	want, got, err := g.run(dir, plan)
	if err == nil {
		return ""
	}
	for _, smaller := range plan.smaller() {
		if time.Now().After(until) {
			break
		}
		if problem := g.try(top, smaller, until); problem != "" {
			return problem
		}
	}
	text, _ := json.Marshal(plan)
	stderr, _ := os.ReadFile(filepath.Join(dir, "stderr"))
	result, _ := os.ReadFile(filepath.Join(dir, "state", "result.json"))
	return fmt.Sprintf("wrong: %v\nplan %s\nwant %+v\ngot  %+v\nresult %s\nstderr %s",
		strings.ReplaceAll(err.Error(), "\n", ", "), text, want, got, result, stderr)
}
