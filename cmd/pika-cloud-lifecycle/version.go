package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version says what was built, from which commit, and with what.
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
	return fmt.Sprintf("pika-cloud-lifecycle %s\ncommit %s%s%s\n%s %s/%s\n",
		v, commit, when, dirty, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
