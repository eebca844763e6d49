package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// imports lists all packages of the module, and for each the other packages that it may
// import. Test files are not checked.
func imports() map[string][]string {
	base := []string{"writer/artifact", "writer/dirfs", "writer/strictjson"}
	with := func(more ...string) []string { return append(more, base...) }
	return map[string][]string{
		"bootid":                            {},
		"docs/schema":                       {},
		"writer/strictjson":                 {},
		"writer/dirfs":                      {},
		"writer/artifact":                   {"writer/strictjson"},
		"writer":                            with("writer/writerlock"),
		"writer/writerlock":                 {"writer/dirfs"},
		"writer/watch":                      {"writer/dirfs"},
		"writer/history":                    with("writer"),
		"writer/verify":                     with("writer", "writer/history", "writer/writerlock"),
		"writer/testenv":                    {},
		"writer/faulttest":                  {},
		"ingest/directive":                  {"writer/artifact", "writer/strictjson"},
		"ingest":                            with("writer", "writer/writerlock", "ingest/directive"),
		"ingest/journal":                    with("ingest", "writer", "writer/history"),
		"ingest/notify":                     {"ingest", "writer/artifact"},
		"ingest/ready":                      {"ingest", "writer/dirfs"},
		"cmd/pika-cloud-lifecycle/timeline": {"writer/artifact", "writer/strictjson"},
		"cmd/pika-cloud-lifecycle": with("bootid", "ingest", "ingest/directive", "ingest/journal", "ingest/notify", "ingest/ready", "writer",
			"writer/writerlock", "writer/watch", "writer/history", "writer/verify", "docs/schema", "cmd/pika-cloud-lifecycle/timeline"),
	}
}

// TestImports checks that each package imports only the packages that imports allows. It
// reads the source files itself, so that a change invalidates its cached result.
func TestImports(t *testing.T) {
	const module = "github.com/sledtools/pika-cloud-lifecycle/"
	allowed, seen := imports(), make(map[string]bool)
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "vendor" || (len(d.Name()) > 1 && d.Name()[0] == '.')) {
			return fs.SkipDir
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(name)
		seen[pkg] = true
		for _, spec := range file.Imports {
			imported, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if ours && !slices.Contains(allowed[pkg], imported) {
				t.Errorf("%s imports %s, which imports() does not allow", name, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("%s has no source files; remove it from imports()", pkg)
		}
	}
}
