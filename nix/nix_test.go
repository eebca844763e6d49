// Package nix_test evaluates and builds the expressions in nix with a stand-in for
// nixpkgs, offline, and boots the resulting units in a real systemd.
package nix_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const program = "pika-cloud-lifecycle"

func TestMain(m *testing.M) { os.Exit(testenv.Main{M: m}.Run()) }

// tree is a copy of the tracked files, and of the Go directories of this machine for
// the stand-in for nixpkgs. It is a repository, as Nix requires for a flake.
var tree = sync.OnceValues(func() (string, error) {
	to := filepath.Join(testenv.Shared(), "tree")
	host, err := json.Marshal(goEnv("GOROOT", "GOMODCACHE", "GOCACHE"))
	if err != nil {
		return "", err
	}
	if err := copyTracked(to); err != nil {
		return "", err
	}
	script := `cd "$1"; printf '%s' "$2" >nix/testdata/nixpkgs/host.json
		git init -q; git add -A; git -c user.name=t -c user.email=t@t commit -qm t`
	out, err := exec.Command("bash", "-euc", script, "bash", to, string(host)).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return to, err
})

// copyTracked copies the tracked files. It reads them itself: the test cache does
// not see what another program reads.
func copyTracked(to string) error {
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = ".."
	names, err := list.Output()
	if err != nil {
		return err
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		from, at := filepath.Join("..", name), filepath.Join(to, name)
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(from)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, text, info.Mode())); err != nil {
			return err
		}
	}
	return nil
}

func goEnv(names ...string) map[string]string {
	values := make(map[string]string)
	for _, name := range names {
		out, _ := exec.Command("go", "env", name).Output()
		values[name] = strings.TrimSpace(string(out))
	}
	return values
}

func needTree(t *testing.T) string {
	t.Helper()
	testenv.Tools(t, "bash", "git", "go")
	if exec.Command("git", "rev-parse", "--git-dir").Run() != nil {
		testenv.Missing(t, "a repository, to list the tracked files,")
	}
	dir, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// storeDir is the Nix store of the tests. They read and write nothing outside the
// shared directory.
func storeDir() string { return filepath.Join(testenv.Shared(), "store") }

func nixEnv() []string {
	at := func(name string) string { return filepath.Join(testenv.Shared(), name) }
	return append(os.Environ(), "NIX_REMOTE=", "NIX_STORE_DIR="+storeDir(), "NIX_STATE_DIR="+at("state"),
		"NIX_LOG_DIR="+at("log"), "NIX_CONF_DIR="+at("conf"), "XDG_CACHE_HOME="+at("cache"), "HOME="+at("home"),
		"NIX_CONFIG=experimental-features = nix-command flakes\nbuild-users-group =\nsandbox = false\nsubstituters =\n")
}

// newStore creates the store, because two commands that do it at the same time fail.
var newStore = sync.OnceValue(func() error {
	init := exec.Command("nix-store", "--init")
	init.Env = nixEnv()
	return init.Run()
})

// nix runs a Nix command in the tree, and returns its stdout and stderr.
func nix(t *testing.T, argv ...string) (stdout, stderr string, err error) {
	t.Helper()
	testenv.Tools(t, "nix-instantiate", "/bin/bash") // as the stand-in for nixpkgs does
	dir := needTree(t)
	if err := newStore(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, nixEnv()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), errs.String(), err
}

// mustNix is nix for a command that must succeed.
func mustNix(t *testing.T, argv ...string) string {
	t.Helper()
	stdout, stderr, err := nix(t, argv...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, stderr)
	}
	return stdout
}

// eval evaluates an expression and decodes its value. Nix copies the files in it to the
// store.
func eval(t *testing.T, expression string, value any) {
	t.Helper()
	text := mustNix(t, "nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "-E", expression)
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber() // 1000000 must not become 1e+06
	if err := d.Decode(value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// nixFiles returns all expressions, as paths in the tree.
func nixFiles(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{"*.nix", "incus/*.nix", "testdata/*.nix", "testdata/nixpkgs/*.nix"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		for _, file := range found {
			files = append(files, filepath.Join("nix", file))
		}
	}
	return files
}

func TestNixFiles_parse(t *testing.T) {
	t.Parallel()
	for _, file := range nixFiles(t) {
		mustNix(t, "nix-instantiate", "--parse", file)
	}
}

// pathFlake returns the URL of the stand-in for nixpkgs in a tree.
func pathFlake(t *testing.T, tree string) string {
	t.Helper()
	if strings.Contains(tree, " ") {
		testenv.Missing(t, "a temporary directory without spaces for Nix, which does not escape them in URLs; set TMPDIR to one")
	}
	return "path:" + tree + "/nix/testdata/nixpkgs"
}

// standIn adds the flags that make a Nix command use the stand-in for nixpkgs.
func standIn(t *testing.T, argv ...string) []string {
	return append(argv, "--offline", "--override-input", "nixpkgs", pathFlake(t, needTree(t)), "./nix")
}

// nix flake check also builds the checks for this machine: the package, with a builder
// that needs the right vendorHash, and the systems of both images.
func TestFlake_checks(t *testing.T) {
	t.Parallel()
	mustNix(t, standIn(t, "nix", "flake", "check", "--no-write-lock-file")...)
	var all map[string]map[string]json.RawMessage
	shown := mustNix(t, standIn(t, "nix", "flake", "show", "--json", "--no-write-lock-file")...)
	if err := json.Unmarshal([]byte(shown), &all); err != nil {
		t.Fatal(err)
	}
	for output, names := range map[string][]string{
		"packages":     {"x86_64-linux", "aarch64-linux"},
		"checks":       {"x86_64-linux", "aarch64-linux"},
		"devShells":    {"x86_64-linux", "aarch64-linux"},
		"overlays":     {"default"},
		"nixosModules": {"default", "managed-agent-image", "ci-image"},
	} {
		for _, name := range names {
			if len(all[output][name]) == 0 {
				t.Errorf("the flake has no %s.%s", output, name)
			}
		}
	}
}

// A system may import any of the modules of the flake together, also more than once.
func TestFlake_modules_together(t *testing.T) {
	t.Parallel()
	const flake = `((import ./nix/flake.nix).outputs {
		self = { rev = "0123"; shortRev = "01"; };
		nixpkgs = { lib = import ./nix/testdata/nixpkgs/lib.nix; legacyPackages = { }; };
	}).nixosModules`
	for _, names := range [][]string{
		{"default", "default"}, {"ci-image", "ci-image"},
		{"default", "ci-image"}, {"ci-image", "managed-agent-image"}, {"managed-agent-image", "default"},
		{"default", "managed-agent-image", "ci-image"},
	} {
		modules := []string{`{ services.pika-cloud-lifecycle.enable = true; }`}
		for _, name := range names {
			modules = append(modules, "("+flake+"."+name+")")
			if name == "managed-agent-image" {
				modules = append(modules, `{ services.pika-cloud-managed-agent = { command = [ "x" ]; probe = "true"; }; }`)
			}
		}
		if s := evalSystem(t, modules...); len(s.Path) != 1 || !strings.HasSuffix(s.Path[0], "+01") {
			t.Errorf("the system of %v has the packages %v; expected that of the flake", names, s.Path)
		}
	}
}

// The stand-in rejects what nixpkgs rejects, and prints what NixOS prints.
func TestStandIn_strict(t *testing.T) {
	t.Parallel()
	const a = `{ type = "derivation"; outPath = "/a"; }`
	for _, c := range []struct{ module, why string }{
		{`{ services.pika-cloud-lifecycle.package = ` + a + `; } { services.pika-cloud-lifecycle.package = ` + a + `; }`, "package' is defined multiple times"},
		{`{ systemd.services.x.serviceConfig.A = "x"; } { systemd.services.x.serviceConfig.A = "y"; }`, "has conflicting definition values"},
		{`{ systemd.services.x.serviceConfig.A = "x"; } { systemd.services.x.serviceConfig.A = [ "x" ]; }`, "has conflicting definition values"},
		{`{ systemd.services.x.after = [ "network" ]; }`, "after' is not of type"},
		{`{ systemd.services.x.description = "a\nb"; }`, "description' is not of type"},
		{`{ systemd.tmpfiles.rules = [ ./VERSION ]; }`, "rules' is not of type"},
		{`({ pkgs, ... }: { imports = [ pkgs.module ]; })`, "infinite recursion"},
		{`({ utils, ... }: { imports = utils.modules; })`, "infinite recursion"},
		{`{ users.users.x.group = "x"; }`, "Exactly one of users.users.x.isSystemUser"},
		{`{ users.users.x.isNormalUser = true; }`, "users.users.x.group is unset"},
	} {
		if why := evalError(t, "./nix/module.nix", "{ services.pika-cloud-lifecycle.enable = true; }", c.module); !strings.Contains(strings.ReplaceAll(why, "\n", " "), c.why) {
			t.Errorf("%s: the error is\n%s\nexpected %s", c.module, why, c.why)
		}
	}
	settings := evalSystem(t, `{ systemd.services.x.serviceConfig = { Path = ./VERSION; Copy = "${./VERSION}"; Empty = null; }; }`).Services["x"].ServiceConfig
	if dir := needTree(t); settings["Path"] != dir+"/VERSION" || !strings.HasPrefix(fmt.Sprint(settings["Copy"]), storeDir()+"/") || settings["Empty"] != "" {
		t.Errorf("the settings are %q; expected the path in %s, one in the store, and nothing", settings, dir)
	}
}
