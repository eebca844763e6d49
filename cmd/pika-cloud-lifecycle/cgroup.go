package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// An oomCounter counts the processes of this process's cgroup that the OOM killer has
// killed since the counter was created. The command starts in the same cgroup.
type oomCounter struct {
	path  string // the file of the kernel's counter; "" if it is unknown
	start uint64
}

func newOOMCounter() oomCounter {
	groups, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, path := range oomFiles(string(groups), string(mounts)) {
		if kills, ok := readOOMKills(path); ok {
			return oomCounter{path, kills}
		}
	}
	return oomCounter{}
}

// kills returns how many processes were killed; 0 if that is unknown.
func (c oomCounter) kills() uint64 {
	kills, ok := readOOMKills(c.path)
	if !ok || kills < c.start {
		return 0
	}
	return kills - c.start
}

// readOOMKills reads the counter oom_kill of a cgroup. The kernel increases it before it
// kills the process.
func readOOMKills(path string) (kills uint64, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		number, found := strings.CutPrefix(line, "oom_kill ")
		if found {
			kills, err = strconv.ParseUint(strings.TrimSuffix(number, "\n"), 10, 64)
			return kills, err == nil
		}
	}
	return 0, false
}

// oomFiles returns the files that may have the counter of a process with these
// /proc/PID/cgroup (cgroups(7)) and /proc/PID/mountinfo (proc_pid_mountinfo(5)). Of several
// mounts at one place, the last one is visible.
func oomFiles(groups, mounts string) (files []string) {
	var inV1, inV2 string // the cgroup in each version; "" if there is none
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[0] == "0" && fields[1] == "":
			inV2 = fields[2]
		case slices.Contains(strings.Split(fields[1], ","), "memory"):
			inV1 = fields[2]
		}
	}
	for line := range strings.Lines(mounts) {
		mount, super, _ := strings.Cut(line, " - ")
		fields, superFields := strings.Fields(mount), strings.Fields(super)
		if len(fields) < 5 || len(superFields) < 3 {
			continue
		}
		group, name := "", ""
		switch {
		case superFields[0] == "cgroup2":
			group, name = inV2, "memory.events"
		case superFields[0] == "cgroup" && slices.Contains(strings.Split(superFields[2], ","), "memory"):
			group, name = inV1, "memory.oom_control"
		}
		below, ok := cutDir(group, unescapeMount(fields[3]))
		if ok {
			files = append(files, filepath.Join(unescapeMount(fields[4]), below, name))
		}
	}
	slices.Reverse(files)
	return files
}

// cutDir returns the path of a cgroup below the cgroup that is the root of a mount. In a
// cgroup namespace, both paths are relative to the root of the namespace, and begin with
// /.. outside it (cgroup_namespaces(7)).
func cutDir(group, root string) (below string, ok bool) {
	below, ok = strings.CutPrefix(group+"/", strings.TrimSuffix(root, "/")+"/")
	if group == "" || slices.Contains(strings.Split(below, "/"), "..") {
		return "", false
	}
	return below, ok
}

// unescapeMount replaces the escapes of mountinfo: \040 is a space.
func unescapeMount(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}
