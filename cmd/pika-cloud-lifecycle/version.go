package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// The linker sets these in a build without a repository, such as that of Nix:
// -X main.stampedVersion=1.2.3 -X main.stampedCommit=COMMIT
var stampedVersion, stampedCommit string

// version returns the version, the commit and the compiler of this build.
func version() string {
	v, commit, when, dirty := "(devel)", "unknown", "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		v = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.time":
				when = " of " + s.Value
			case "vcs.modified":
				if s.Value == "true" {
					dirty = ", modified"
				}
			}
		}
	}
	v, commit = cmp.Or(stampedVersion, v), cmp.Or(stampedCommit, commit)
	return fmt.Sprintf("pika-cloud-lifecycle %s\ncommit %s%s%s\n%s %s/%s\n",
		v, commit, when, dirty, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
