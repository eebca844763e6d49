package main

import (
	"go/ast"
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

const module = "github.com/sledtools/pika-cloud-lifecycle"

// rooms returns, for each package, the packages of the module that it may
// import.
func rooms() map[string][]string {
	low := []string{"writer/strictjson", "writer/artifact", "writer/dirfs"}
	with := func(more ...string) []string { return append(more, low...) }
	return map[string][]string{
		"bootid":            {},
		"docs/schema":       {},
		"writer/strictjson": {},
		"writer/dirfs":      {},
		"writer/artifact":   {"writer/strictjson"},
		"writer":            with(),
		"writer/watch":      {"writer/dirfs"},
		"writer/history":    with("writer"),
		"writer/verify":     with("writer", "writer/history"),
		"ingest/directive":  {"writer/artifact", "writer/strictjson"},
		"ingest":            with("writer", "ingest/directive"),
		"ingest/journal":    with("ingest", "writer"),
		"ingest/notify":     {"ingest", "writer/artifact"},
		"cmd/pika-cloud-lifecycle": with("bootid", "ingest", "ingest/directive", "ingest/journal", "ingest/notify", "writer", "writer/watch",
			"writer/history", "writer/verify", "docs/schema", "cmd/pika-cloud-lifecycle/timeline"),
		"cmd/pika-cloud-lifecycle/timeline": {"writer/artifact", "writer/strictjson"},
	}
}

// A source is a parsed .go file of the module.
type source struct {
	room string // its directory
	name string // its path
	test bool
	*ast.File
	set *token.FileSet
}

// sources parses every .go file of the module. A test that asked the go
// command would pass from the cache after a violation.
func sources(t *testing.T) (all []source) {
	t.Helper()
	set := token.NewFileSet()
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "testdata" || d.Name() == "vendor" || len(d.Name()) > 1 && d.Name()[0] == '.') {
			return fs.SkipDir
		}
		if err != nil || path.Ext(name) != ".go" {
			return err
		}
		file, err := parser.ParseFile(set, filepath.Join("../..", name), nil, parser.ParseComments|parser.SkipObjectResolution)
		room := path.Dir(name)
		test := strings.HasSuffix(name, "_test.go") || room == "writer/testenv" // which only tests import
		all = append(all, source{room: room, name: name, test: test, File: file, set: set})
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

// production returns the files that are no tests.
func production(t *testing.T) (files []source) {
	t.Helper()
	for _, s := range sources(t) {
		if !s.test {
			files = append(files, s)
		}
	}
	return files
}

// at returns where a node stands.
func (s *source) at(n ast.Node) token.Position { return s.set.Position(n.Pos()) }

// imports returns the paths that the file imports.
func (s *source) imports() (paths []string) {
	for _, spec := range s.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

func TestImportsPointOneWay(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range production(t) {
		seen[s.room] = true
		for _, imported := range s.imports() {
			room, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(rooms()[s.room], room) {
				t.Errorf("%s imports %s", s.name, imported)
			}
		}
	}
	for room := range rooms() {
		if !seen[room] {
			t.Errorf("the room %s has no files", room)
		}
	}
}

func TestThereAreNoOtherRooms(t *testing.T) {
	for _, s := range sources(t) {
		inner := strings.HasPrefix(s.room, "ingest/") || strings.HasPrefix(s.room, "writer/")
		if _, ok := rooms()[s.room]; !ok && !inner && !(s.test && (strings.HasPrefix(s.room, "docs") || strings.HasPrefix(s.room, "nix"))) {
			t.Errorf("%s stands in no room", s.name)
		}
		for _, part := range strings.Split(s.room, "/") {
			if slices.Contains([]string{"internal", "util", "utils", "common", "types", "model", "models", "helper", "helpers", "misc"}, part) {
				t.Errorf("%s: %s says nothing about what is in it", s.name, part)
			}
		}
	}
}

func TestEachPackageHasOneDoc(t *testing.T) {
	docs := make(map[string]int)
	for _, s := range production(t) {
		docs[s.room] += 0
		if s.Doc == nil {
			continue
		}
		docs[s.room]++
		want := "Package " + s.Name.Name + " "
		if s.Name.Name == "main" {
			want = "Command " + path.Base(s.room) + " "
		}
		if !strings.HasPrefix(s.Doc.Text(), want) {
			t.Errorf("%s: the doc does not begin with %q", s.name, want)
		}
	}
	for room, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package docs", room, n)
		}
	}
}

// calls calls found with each use of a name of an imported package, such as
// os.Exit.
func (s *source) uses(found func(n *ast.SelectorExpr, name string, in *ast.FuncDecl)) {
	for _, decl := range s.Decls {
		fn, _ := decl.(*ast.FuncDecl)
		ast.Inspect(decl, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok {
				found(sel, pkg.Name+"."+sel.Sel.Name, fn)
			}
			return true
		})
	}
}

func TestOnlyMainExits(t *testing.T) {
	exits := 0
	for _, s := range production(t) {
		s.uses(func(n *ast.SelectorExpr, name string, in *ast.FuncDecl) {
			if !slices.Contains([]string{"os.Exit", "syscall.Exit", "unix.Exit", "runtime.Goexit"}, name) {
				return
			}
			if exits++; s.Name.Name != "main" || in == nil || in.Name.Name != "main" || in.Recv != nil {
				t.Errorf("%v: %s", s.at(n), name)
			}
		})
	}
	if exits != 1 {
		t.Errorf("%d exits, want one", exits)
	}
}

func TestLibrariesNeverPrintLogOrPanic(t *testing.T) {
	for _, s := range production(t) {
		if slices.Contains(s.imports(), "log") || slices.Contains(s.imports(), "log/slog") {
			t.Errorf("%s logs", s.name)
		}
		s.uses(func(n *ast.SelectorExpr, name string, _ *ast.FuncDecl) {
			out := name == "os.Stdout" || name == "os.Stderr" || name == "os.Stdin"
			if strings.HasPrefix(name, "fmt.Print") || out && s.Name.Name != "main" {
				t.Errorf("%v: %s", s.at(n), name)
			}
		})
		ast.Inspect(s.File, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.Ident); ok && slices.Contains([]string{"panic", "print", "println"}, f.Name) {
					t.Errorf("%v: %s", s.at(n), f.Name)
				}
			}
			return true
		})
	}
}

// Each room knows what STYLE says it may: where a package of the standard
// library tells that it knows more, it is named here.
func TestRoomsDoNotKnowWhatIsNotTheirs(t *testing.T) {
	forbidden := map[string][]string{
		"writer":                            {"flag", "os.Stdin", "os.Args", "time.Now", "os.Getenv", "os/signal", "os/exec"},
		"writer/strictjson":                 {"flag", "os", "time", "os/signal", "os/exec", "golang.org/x/sys/unix"},
		"ingest":                            {"flag", "os", "os/signal", "os/exec", "os.Getenv", "os.Args"},
		"ingest/notify":                     {"flag", "os", "os/signal", "os/exec", "net/http"},
		"bootid":                            {"encoding/json", "time", "flag"},
		"writer/history":                    {"flag", "os.Stdin", "os.Args", "time.Now", "os.Getenv", "os/signal", "os/exec", "encoding/json", "reflect"},
		"writer/verify":                     {"flag", "os.Stdin", "os.Args", "time.Now", "os.Getenv", "os/signal", "os/exec", "encoding/json", "reflect"},
		"cmd/pika-cloud-lifecycle/timeline": {"flag", "os", "time.Now", "encoding/xml", "encoding/json"},
		"ingest/journal":                    {"flag", "os", "os/signal", "os/exec", "net"},
	}
	for _, s := range production(t) {
		for _, imported := range s.imports() {
			if slices.Contains(forbidden[s.room], imported) {
				t.Errorf("%s imports %s", s.name, imported)
			}
		}
		s.uses(func(n *ast.SelectorExpr, name string, _ *ast.FuncDecl) {
			if measured := s.name == "writer/lock.go" && name == "time.Now"; measured {
				return // a wait: no such time is written
			}
			if slices.Contains(forbidden[s.room], name) {
				t.Errorf("%v: %s", s.at(n), name)
			}
		})
	}
}

func TestNothingRunsOrChangesBehindTheBack(t *testing.T) {
	files := production(t)
	for _, s := range files {
		for _, decl := range s.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%v: init", s.at(fn))
			}
		}
		for _, name := range packageVars(&s) {
			if where := assigned(files, s.room, name.Name); where != "" {
				t.Errorf("%v: %s is changed at %s", s.at(name), name.Name, where)
			}
		}
	}
}

// packageVars returns the names of the variables that a file declares at top
// level.
func packageVars(s *source) (names []*ast.Ident) {
	for _, decl := range s.Decls {
		if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
			for _, spec := range gen.Specs {
				names = append(names, spec.(*ast.ValueSpec).Names...)
			}
		}
	}
	return names
}

// assigned returns where a file of the room assigns to the name, to what it
// holds, or takes its address: "" if none does. A local variable that shadows
// it counts too: it would mislead a reader as much.
func assigned(files []source, room, name string) (where string) {
	for _, s := range files {
		if s.room != room {
			continue
		}
		note := func(e ast.Expr) {
			if id, ok := root(e).(*ast.Ident); ok && id.Name == name {
				where = s.at(e).String()
			}
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, e := range n.Lhs {
					note(e)
				}
			case *ast.IncDecStmt:
				note(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					note(n.X)
				}
			}
			return true
		})
	}
	return where
}

// root returns what an expression such as a.b[c] begins with.
func root(e ast.Expr) ast.Expr {
	for {
		switch x := e.(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return e
		}
	}
}
