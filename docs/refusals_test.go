package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A refusedExample is a row of protocol.md's tables of refused lines.
type refusedExample struct {
	line    string // alone on its stream
	command string // or a bash command that prints the input
	flag    string
	said    string
}

// refusedExamples reads the two tables. Each row begins, and each cell ends,
// with a code span, except for a missing flag.
func refusedExamples(t *testing.T) (all []refusedExample) {
	t.Helper()
	_, section, ok := strings.Cut(testenv.ReadFile(t, "protocol.md"), "\n## Refused lines\n")
	if !ok {
		t.Fatal("protocol.md has no section on refused lines")
	}
	cell := regexp.MustCompile("^`([^`]*)`$|^()$")
	for row := range strings.Lines(section) {
		row = strings.TrimSuffix(row, "\n")
		if !strings.HasPrefix(row, "|") || strings.HasPrefix(row, "|---") || strings.Contains(row, "what is said") {
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(row, "|"), " | ") {
			m := cell.FindStringSubmatch(strings.TrimSpace(c))
			if m == nil {
				t.Fatalf("not a code span: %s", c)
			}
			cells = append(cells, m[1])
		}
		switch len(cells) {
		case 2:
			all = append(all, refusedExample{line: cells[0], said: "line 1, " + cells[1]})
		case 3:
			all = append(all, refusedExample{flag: cells[0], command: cells[1], said: cells[2]})
		default:
			t.Fatalf("%d cells: %s", len(cells), row)
		}
	}
	if len(all) < 50 {
		t.Fatalf("%d examples; expected all of the tables", len(all))
	}
	return all
}

func TestRefusalsAreSaidAsTheProtocolShowsThem(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	for _, e := range refusedExamples(t) {
		input := e.line + "\n"
		if e.command != "" {
			input, _, _ = command{}.run(t, bash, "-c", e.command)
		}
		argv := []string{testenv.Program(t), "ingest"}
		if e.flag != "" {
			argv = append(argv, e.flag)
		}
		_, stderr, code := command{input: input}.run(t, argv...)
		said, _, _ := strings.Cut(stderr, "\n")
		if said != program+": "+e.said || code != 3 {
			t.Errorf("%s%s:\n   is %s, exit %d\nwants %s: %s, exit 3", e.line, e.command, said, code, program, e.said)
		}
	}
}

// A refusalFormat is what the code says of a line, verbs and all.
type refusalFormat struct {
	text    string
	pattern *regexp.Regexp
	literal int // bytes that are not a verb's: the more, the more specific
	at      token.Position
}

// refusalFormats finds what the functions named refuse are given, in the
// source of the two packages that read lines.
func refusalFormats(t *testing.T) (all []refusalFormat) {
	t.Helper()
	for _, dir := range []string{"../ingest", "../writer/strictjson"} {
		paths, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s has no source: %v", dir, err)
		}
		files := token.NewFileSet()
		var trees []*ast.File
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			trees = append(trees, tree)
		}
		all = append(all, formatsIn(t, files, trees)...)
	}
	return all
}

func formatsIn(t *testing.T, files *token.FileSet, trees []*ast.File) (all []refusalFormat) {
	t.Helper()
	consts := constants(trees)
	for _, tree := range trees {
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "refuse" {
				return true
			}
			text, ok := literal(call.Args[1], consts)
			if !ok {
				t.Errorf("%s: the text of a refusal is no constant", files.Position(call.Pos()))
			}
			all = append(all, newFormat(text, files.Position(call.Pos())))
			return true
		})
	}
	return all
}

// constants returns the string constants of a package.
func constants(trees []*ast.File) map[string]string {
	consts := make(map[string]string)
	for _, tree := range trees {
		ast.Inspect(tree, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, name := range spec.Names {
					if i < len(spec.Values) {
						if text, ok := literal(spec.Values[i], nil); ok {
							consts[name.Name] = text
						}
					}
				}
			}
			return true
		})
	}
	return consts
}

func literal(e ast.Expr, consts map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.Ident:
		text, ok := consts[e.Name]
		return text, ok
	}
	return "", false
}

var formatVerb = regexp.MustCompile(`%[a-z]`)

func newFormat(text string, at token.Position) refusalFormat {
	pattern := "^"
	rest := text
	for _, m := range formatVerb.FindAllString(text, -1) {
		before, after, _ := strings.Cut(rest, m)
		pattern += regexp.QuoteMeta(before) + ".*"
		rest = after
	}
	pattern += regexp.QuoteMeta(rest) + "$"
	return refusalFormat{text, regexp.MustCompile(pattern), len(formatVerb.ReplaceAllString(text, "")), at}
}

// where is what stands before why a line is refused; JSON in a word has an
// offset of its own.
var where = regexp.MustCompile(`^line \d+, column \d+: `)
var whereInWord = regexp.MustCompile(`^the value of .* is not JSON: offset \d+: `)

func TestEveryRefusalHasAnExample(t *testing.T) {
	formats := refusalFormats(t)
	shown := make(map[string]bool)
	for _, e := range refusedExamples(t) {
		why := where.ReplaceAllString(e.said, "")
		f := mostSpecific(formats, why)
		if f == nil {
			t.Errorf("no code says %q", why)
			continue
		}
		shown[f.text] = true
		if inner := whereInWord.ReplaceAllString(why, ""); inner != why {
			if f := mostSpecific(formats, inner); f != nil {
				shown[f.text] = true
			}
		}
	}
	for _, f := range formats {
		if !shown[f.text] {
			t.Errorf("%s: protocol.md has no example of %q", f.at, f.text)
		}
	}
}

// mostSpecific returns the format that why was most likely made from.
func mostSpecific(formats []refusalFormat, why string) (best *refusalFormat) {
	for i := range formats {
		f := &formats[i]
		if f.pattern.MatchString(why) && (best == nil || f.literal > best.literal) {
			best = f
		}
	}
	return best
}

// The sources of refusals are found by their name; nothing else may make one.
func TestRefusalsAreMadeByRefuseAlone(t *testing.T) {
	var made []string
	paths, err := filepath.Glob("../ingest/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source: %v", err)
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, "_test.go") && strings.Contains(testenv.ReadFile(t, path), "&refusal{") {
			made = append(made, filepath.Base(path))
		}
	}
	// refuse itself, and the one that hands on what strictjson's refuse said.
	if want := []string{"json.go", "refusal.go"}; !slices.Equal(made, want) {
		t.Errorf("refusals are made in %v; expected %v", made, want)
	}
}
