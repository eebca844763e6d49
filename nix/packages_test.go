package nix_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// releaseTime is the time of the commit that the tests release. No other time may get
// into a package.
const releaseTime = 981173106

// releaseEnv is the environment of a commit and a build. No identity or setting of the
// machine's git applies.
func releaseEnv(more ...string) []string {
	return append(os.Environ(), append([]string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t",
		fmt.Sprintf("GIT_AUTHOR_DATE=%d +0000", releaseTime), fmt.Sprintf("GIT_COMMITTER_DATE=%d +0000", releaseTime)}, more...)...)
}

// script runs a bash script in a directory.
func script(dir, text string, env ...string) (output string, err error) {
	cmd := exec.Command("bash", "-euc", text)
	cmd.Dir, cmd.Env = dir, releaseEnv(env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustScript(t *testing.T, dir, text string, env ...string) (output string) {
	t.Helper()
	output, err := script(dir, text, env...)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return output
}

// tagged is a repository with the tracked files and the tag of their version. Its
// changelog has a section of the version.
var tagged = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(testenv.Shared(), "release")
	if err := copyTracked(dir); err != nil {
		return "", err
	}
	out, err := script(dir, `sed -i "s/^## Unreleased ($(<VERSION))/## $(<VERSION)/" CHANGELOG.md
		git init -q; git add -A; git commit -qm t; git tag "v$(<VERSION)"`)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
})

func needTagged(t *testing.T) (dir string) {
	t.Helper()
	needTree(t) // reports what a copy of the tracked files needs
	dir, err := tagged()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// needNfpm ends the test if nfpm is not installed in the version of nix/release.sh. The
// script itself would download it.
func needNfpm(t *testing.T) {
	t.Helper()
	version := regexp.MustCompile(`nfpm_version=(\S+)`).FindStringSubmatch(testenv.ReadFile(t, "release.sh"))[1]
	path, err := exec.LookPath("nfpm")
	if err == nil {
		var out []byte
		out, err = exec.Command("go", "version", "-m", path).Output()
		if !strings.Contains(string(out), "nfpm/v2\t"+version+"\t") || !strings.HasPrefix(string(out), path+": "+runtime.Version()+"\n") {
			err = errors.Join(err, fmt.Errorf("%s has another version, or was built with another Go than %s", path, runtime.Version()))
		}
	}
	if err != nil {
		testenv.Missing(t, "nfpm %s; install it with go install github.com/goreleaser/nfpm/v2/cmd/nfpm@%s (%v)", version, version, err)
	}
}

// archs are the architectures that the tests build: all of a release with SWEEP set, and
// otherwise that of this machine.
func archs() []string {
	if os.Getenv("SWEEP") != "" {
		return []string{"amd64", "arm64"}
	}
	return []string{runtime.GOARCH}
}

var released = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(testenv.Shared(), "released")
	tree, err := tagged()
	if err != nil {
		return "", err
	}
	out, err := script(tree, `nix/release.sh "$OUT" `+strings.Join(archs(), " "), "OUT="+dir)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
})

// needRelease returns the directory with the files of a release.
func needRelease(t *testing.T) (dir string) {
	t.Helper()
	needTagged(t)
	needNfpm(t)
	dir, err := released()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func projectVersion(t *testing.T) string { return strings.TrimSpace(testenv.ReadFile(t, "../VERSION")) }

// rpmArch is an architecture as rpm and apk name it.
var rpmArch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// packageFiles are the names of the packages of an architecture. A version of apk has no dash.
func packageFiles(version, arch string) (deb, rpm, apk string) {
	return fmt.Sprintf("%s_%s-1_%s.deb", program, version, arch), fmt.Sprintf("%s-%s-1.%s.rpm", program, version, rpmArch[arch]),
		fmt.Sprintf("%s_%s-r1_%s.apk", program, strings.ReplaceAll(version, "-", "_"), rpmArch[arch])
}

func TestRelease_files(t *testing.T) {
	t.Parallel()
	dir, version := needRelease(t), projectVersion(t)
	want := []string{"SHA256SUMS", "notes.md"}
	for _, arch := range archs() {
		deb, rpm, apk := packageFiles(version, arch)
		binary := program + "-" + version + "-linux-" + arch
		want = append(want, deb, rpm, apk, binary, binary+".tar.gz")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), program) {
			t.Logf("%s: %d KiB", e.Name(), (info.Size()+1023)/1024)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("files %q; expected %q", got, want)
	}
	if sums := mustScript(t, dir, "sha256sum -c SHA256SUMS"); strings.Count(sums, ": OK\n") != len(want)-2 {
		t.Errorf("the checksums cover\n%s", sums)
	}
	notes := testenv.ReadFile(t, filepath.Join(dir, "notes.md"))
	if strings.HasPrefix(notes, "#") || strings.Contains(notes, "\n## ") || !strings.Contains(notes, runtime.Version()) {
		t.Errorf("notes.md is not the section of the version:\n%.300s", notes)
	}
	if relative := regexp.MustCompile(`\]\([^:)]*\)`).FindAllString(notes, -1); len(relative) > 0 {
		t.Errorf("notes.md has relative links, which the page of a release does not have: %q", relative)
	}
	commit := strings.TrimSpace(mustScript(t, needTagged(t), "git rev-parse HEAD"))
	prints := mustScript(t, dir, fmt.Sprintf("./%s-%s-linux-%s --version", program, version, runtime.GOARCH))
	if want := fmt.Sprintf("%s %s\ncommit %s\n", program, version, commit); !strings.HasPrefix(prints, want) {
		t.Errorf("the program prints %q; expected %q", prints, want)
	}
}

// A build in another folder and on another file system, with other times and settings, makes
// the same files.
func TestRelease_reproducible(t *testing.T) {
	t.Parallel()
	first := needRelease(t)
	dir := filepath.Join(t.TempDir(), "another place")
	second := filepath.Join(dir, "out")
	mustScript(t, needTagged(t), `umask 077; git clone -q . "$TO"`, "TO="+filepath.Join(dir, "tree"))
	mustScript(t, filepath.Join(dir, "tree"), `umask 077; chmod -R go= .; find . -exec touch -hd 2030-01-01 {} +
		nix/release.sh "$OUT" `+strings.Join(archs(), " "), "OUT="+second, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "LANGUAGE=de",
		"GOFLAGS=-buildvcs=true", "GOAMD64=v3", "GOEXPERIMENT=nodwarf5", "GOFIPS140=latest", "CGO_ENABLED=1", "SOURCE_DATE_EPOCH=1", "TMPDIR="+testenv.TempDir(t), "GZIP=-1", "TAR_OPTIONS=--mode=777")
	out, err := script(second, `diff -r "$FIRST" .`, "FIRST="+first)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What prevents a release, and the message.
func TestRelease_stops(t *testing.T) {
	t.Parallel()
	from := needTagged(t)
	for name, c := range map[string]struct{ prepare, want string }{
		"changed":        {`echo >>README.md`, "the working tree has changes; commit or remove them"},
		"untracked":      {`echo 'package main' >cmd/pika-cloud-lifecycle/more.go`, "more.go"},
		"another_tag":    {`git tag v9.9.9`, "this commit has the tag v9.9.9, but VERSION is "},
		"tagged_before":  {`git commit -q --allow-empty -m t`, "belongs to another commit"},
		"version_tag":    {`echo "v$(<VERSION)" >VERSION; git commit -qam t`, `VERSION is "v`},
		"version_suffix": {`echo 1.2.3-dev >VERSION; git commit -qam t`, `VERSION is "1.2.3-dev"; write a version such as 1.2.3, or 1.2.3-rc1 before that one (alpha, beta or rc)`},
		"version_dot":    {`echo 1.2.3-rc.1 >VERSION; git commit -qam t`, `VERSION is "1.2.3-rc.1"; `},
		"no_section":     {`sed -i '/^## [0-9]/d' CHANGELOG.md; git commit -qam t; git tag -f "v$(<VERSION)"`, "CHANGELOG.md has no section \"## "},
		"empty_section":  {`printf '## %s\n\n## 0.0.1\n\nold\n' "$(<VERSION)" >CHANGELOG.md; git commit -qam t; git tag -f "v$(<VERSION)"`, "CHANGELOG.md has no section \"## "},
		"output_exists":  {`mkdir ../out; touch ../out/file`, "is not empty; give an empty or a new directory"},
		"architecture":   {`args=mips`, `"mips" is not an architecture of a release; give amd64 or arm64`},
		"missing_tool":   {`mkdir ../bin; for tool in bash git go dirname mkdir; do ln -s "$(command -v $tool)" ../bin/; done; PATH=$PWD/../bin`, "tar is missing; install it"},
		"missing_nfpm":   {`export GOPROXY=off GOMODCACHE=$PWD/../mod PATH=$(dirname "$(command -v go)"):/usr/bin:/bin`, "nfpm v"},
		"no_repository":  {`rm -rf .git`, "this is not a git repository; clone it"},
		"usage":          {`nix/release.sh`, "usage: nix/release.sh OUTDIR [ARCH...]"},
		"unknown_option": {`nix/release.sh --check`, "usage: nix/release.sh OUTDIR [ARCH...]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			mustScript(t, from, `git clone -q . "$TO"`, "TO="+filepath.Join(dir, "tree"))
			out, err := script(filepath.Join(dir, "tree"), "args=; "+c.prepare+"\nnix/release.sh ../out $args")
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%v\n%s; expected %q", err, out, c.want)
			}
		})
	}
}

// The script does not use an nfpm that another Go has built.
func TestRelease_nfpm_of_another_Go(t *testing.T) {
	t.Parallel()
	needNfpm(t)
	dir := t.TempDir()
	out, err := script(dir, `git clone -q "$FROM" tree
		mkdir bin
		version=$(cd tree && go env GOVERSION)
		LC_ALL=C sed "s/$version/Go${version#go}/g" "$(command -v nfpm)" >bin/nfpm
		chmod +x bin/nfpm
		PATH=$PWD/bin:$PATH GOPROXY=off GOMODCACHE=$PWD/mod tree/nix/release.sh out`, "FROM="+needTagged(t))
	if want := ", built with " + runtime.Version() + ", is missing; run: go install "; err == nil || !strings.Contains(out, want) {
		t.Errorf("%v\n%s; expected %q", err, out, want)
	}
}

// The modes and owners of the files in the packages.
const (
	plainFile  = "-rw-r--r-- root:root"
	executable = "-rwxr-xr-x root:root"
)

// Files of the packages, with their modes and owners.
var (
	inAll = map[string]string{
		"/usr/bin/" + program:                                       executable,
		"/usr/share/bash-completion/completions/" + program:         plainFile,
		"/usr/share/doc/" + program + "/changelog.gz":               plainFile,
		"/usr/share/doc/" + program + "/copyright":                  plainFile,
		"/usr/share/doc/" + program + "/directive.sh":               plainFile,
		"/usr/share/doc/" + program + "/third-party-licenses.gz":    plainFile,
		"/usr/share/fish/vendor_completions.d/" + program + ".fish": plainFile,
		"/usr/share/man/man1/" + program + ".1.gz":                  plainFile,
	}
	forZsh = map[string]string{"/usr/share/zsh/site-functions/_" + program: plainFile}
	inDeb  = map[string]string{
		"/usr/share/doc/" + program + "/changelog.Debian.gz": plainFile,
		"/usr/share/lintian/overrides/" + program:            plainFile,
		"/usr/share/zsh/vendor-completions/_" + program:      plainFile,
	}
	inAPK = map[string]string{
		"/etc/conf.d/" + program: plainFile,
		"/etc/init.d/" + program: executable,
	}
)

// forSystemd are the units, the tmpfiles rule and the message catalog.
func forSystemd(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for pattern, dir := range map[string]string{"systemd/*.service": "systemd/system", "systemd/*.socket": "systemd/system", "../docs/units/*.service": "systemd/system",
		"systemd/*.conf": "tmpfiles.d", "../docs/catalog/*.catalog": "systemd/catalog"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			files[path.Join("/usr/lib", dir, filepath.Base(name))] = plainFile
		}
	}
	return files
}

// A packed file has the mode and the owner of a file in a package, and its content.
type packed struct {
	mode string
	text string
}

// unpack reads a tar archive. Every entry must have the time of the commit, and every
// directory must be one of root's that all may read.
func unpack(t *testing.T, r io.Reader) (files map[string]packed) {
	t.Helper()
	files = make(map[string]packed)
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		f := packed{fmt.Sprintf("%v %s:%s", h.FileInfo().Mode(), h.Uname, h.Gname), string(text)}
		if h.ModTime.Unix() != releaseTime && h.Name != ".PKGINFO" { // nfpm gives that the time 0
			t.Errorf("%s has the time %v; expected that of the commit", h.Name, h.ModTime)
		}
		if h.Typeflag == tar.TypeDir {
			if f.mode != "drwxr-xr-x root:root" {
				t.Errorf("%s is %s", h.Name, f.mode)
			}
			continue
		}
		files[path.Join("/", h.Name)] = f
	}
}

// debFiles returns the files of a deb, and those for dpkg.
func debFiles(t *testing.T, file string) (data, control map[string]packed) {
	t.Helper()
	read := func(flag string) map[string]packed {
		out, err := exec.Command(testenv.Tool(t, "dpkg-deb"), flag, file).Output()
		if err != nil {
			t.Fatal(err)
		}
		return unpack(t, bytes.NewReader(out))
	}
	return read("--fsys-tarfile"), read("--ctrl-tarfile")
}

// apkFiles returns the files of an apk, and those for apk. An unsigned apk is two compressed
// tar archives, and the first has the checksum of the second.
func apkFiles(t *testing.T, file string) (data, control map[string]packed) {
	t.Helper()
	r := strings.NewReader(testenv.ReadFile(t, file))
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	control = unpack(t, z)
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("\ndatahash = %x\n", sha256.Sum256(rest)); !strings.Contains(control["/.PKGINFO"].text, sum) {
		t.Errorf("%s: the checksum is not %s", file, sum)
	}
	if err := z.Reset(bytes.NewReader(rest)); err != nil {
		t.Fatal(err)
	}
	return unpack(t, z), control
}

// rpmFiles returns the files of an rpm.
func rpmFiles(t *testing.T, file string) (data map[string]packed) {
	t.Helper()
	testenv.Tools(t, "rpm", "rpm2cpio", "cpio")
	dir := t.TempDir()
	mustScript(t, dir, `rpm2cpio "$PACKAGE" | cpio --quiet -id --no-absolute-filenames`, "PACKAGE="+file)
	data = make(map[string]packed)
	list := mustScript(t, dir, `rpm -qp --nosignature --qf '[%{FILENAMES} %{FILEMTIMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME}\n]' "$PACKAGE"`, "PACKAGE="+file)
	for line := range strings.Lines(list) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if words[1] != fmt.Sprint(releaseTime) {
			t.Errorf("%s has the time %s; expected that of the commit", words[0], words[1])
		}
		if words[2] == "drwxr-xr-x root:root" {
			continue
		}
		data[words[0]] = packed{words[2], testenv.ReadFile(t, filepath.Join(dir, words[0]))}
	}
	return data
}

// The packages have the same files, apart from those for systemd, OpenRC and Debian.
func TestPackages_files(t *testing.T) {
	t.Parallel()
	dir := needRelease(t)
	for _, arch := range archs() {
		deb, rpm, apk := packageFiles(projectVersion(t), arch)
		inTheDeb, _ := debFiles(t, filepath.Join(dir, deb))
		inTheAPK, _ := apkFiles(t, filepath.Join(dir, apk))
		inTheRPM := rpmFiles(t, filepath.Join(dir, rpm))
		for name, p := range map[string]struct {
			got   map[string]packed
			lists []map[string]string
		}{
			deb: {inTheDeb, []map[string]string{inAll, forSystemd(t), inDeb}},
			rpm: {inTheRPM, []map[string]string{inAll, forSystemd(t), forZsh}},
			apk: {inTheAPK, []map[string]string{inAll, forZsh, inAPK}},
		} {
			want := make(map[string]string)
			for _, list := range p.lists {
				maps.Copy(want, list)
			}
			got := make(map[string]string)
			for file, f := range p.got {
				got[file] = f.mode
				if other, ok := inTheDeb[file]; ok && f.text != other.text {
					t.Errorf("%s: %s differs from the one in the deb", name, file)
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s has\n%s\nexpected\n%s", name, listed(got), listed(want))
			}
		}
		if unit := inTheDeb["/usr/lib/systemd/system/"+program+".service"].text; !strings.Contains(unit, "\nExecStart=/usr/bin/"+program+" ingest ") {
			t.Errorf("the unit does not start the program of the package:\n%s", unit)
		}
		for _, file := range []string{"/usr/share/man/man1/" + program + ".1.gz", "/usr/share/doc/" + program + "/changelog.gz"} {
			if header := inTheDeb[file].text; len(header) < 8 || header[3:8] != "\x00\x00\x00\x00\x00" {
				t.Errorf("%s has the name or the time of its source", file)
			}
		}
	}
}

// The archive has the files of the packages, below /usr/local.
func TestRelease_archive(t *testing.T) {
	t.Parallel()
	dir := needRelease(t)
	for _, arch := range archs() {
		name := program + "-" + projectVersion(t) + "-linux-" + arch
		z, err := gzip.NewReader(strings.NewReader(testenv.ReadFile(t, filepath.Join(dir, name+".tar.gz"))))
		if err != nil {
			t.Fatal(err)
		}
		got, want := make(map[string]string), make(map[string]string)
		for file, f := range unpack(t, z) {
			got[file] = f.mode
			if file == "/usr/local/bin/"+program && f.text != testenv.ReadFile(t, filepath.Join(dir, name)) {
				t.Errorf("%s.tar.gz has another program than %s", name, name)
			}
		}
		for _, list := range []map[string]string{inAll, forSystemd(t), forZsh} {
			for file, mode := range list {
				want["/usr/local"+strings.TrimPrefix(file, "/usr")] = mode
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s.tar.gz has\n%s\nexpected\n%s", name, listed(got), listed(want))
		}
	}
}

func listed(files map[string]string) (text string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text += name + " " + files[name] + "\n"
	}
	return text
}

// The licenses of all modules that are linked into the program, and of Go. The packages name
// them.
func TestPackages_licenses(t *testing.T) {
	t.Parallel()
	deb, _, _ := packageFiles(projectVersion(t), runtime.GOARCH)
	files, control := debFiles(t, filepath.Join(needRelease(t), deb))
	z, err := gzip.NewReader(strings.NewReader(files["/usr/share/doc/"+program+"/third-party-licenses.gz"].text))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := buildinfo.Read(strings.NewReader(files["/usr/bin/"+program].text))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n\n\n")
	if len(parts) == 0 || !strings.Contains(parts[0], "The Go Authors") {
		t.Error("the license of Go is missing")
	}
	for _, m := range binary.Deps {
		_, license, ok := strings.Cut(string(text), "\n"+m.Path+" "+m.Version+"\n\n")
		if license = license[:min(400, len(license))]; !ok || !regexp.MustCompile(`(?i)license|copyright`).MatchString(license) {
			t.Errorf("the license of %s %s is missing", m.Path, m.Version)
		}
	}
	field := regexp.MustCompile("(?m)^License: .*").FindString(control["/control"].text)
	for phrase, name := range map[string]string{"Permission is hereby granted": "MIT", "Apache License": "Apache-2.0", "Redistribution and use": "BSD-3-Clause"} {
		if strings.Contains(string(text), phrase) != strings.Contains(field, name) {
			t.Errorf("the packages have %q; expected %s only if a license has %q", field, name, phrase)
		}
	}
	if len(binary.Deps) == 0 {
		t.Error("the program has no modules; expected some")
	}
}

// Each package has its scripts of nix/packages and no other ones. The rpm is intact, and
// does not name the machine.
func TestPackages_scripts(t *testing.T) {
	t.Parallel()
	dir := needRelease(t)
	debName, rpmName, apkName := packageFiles(projectVersion(t), runtime.GOARCH)
	_, deb := debFiles(t, filepath.Join(dir, debName))
	_, apk := apkFiles(t, filepath.Join(dir, apkName))
	testenv.Tool(t, "rpm")
	got := make(map[string]string)
	for name, f := range deb {
		if name = strings.TrimPrefix(name, "/"); f.mode == executable || strings.HasPrefix(f.mode, "-rwxr-xr-x") {
			got["deb-"+name] = f.text
		}
	}
	for name, f := range apk {
		if name != "/.PKGINFO" {
			got["apk-"+strings.TrimPrefix(name, "/.")] = f.text
		}
	}
	for tag, name := range map[string]string{"PREIN": "pre", "POSTIN": "post", "PREUN": "preun", "POSTUN": "postun", "PRETRANS": "pretrans", "POSTTRANS": "posttrans"} {
		if text := mustScript(t, dir, "rpm -qp --nosignature --qf '%{"+tag+"}' "+rpmName); text != "(none)" {
			got["rpm-"+name] = text
		}
	}
	want := make(map[string]string)
	files, err := filepath.Glob("packages/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		want[strings.TrimSuffix(filepath.Base(file), ".sh")] = testenv.ReadFile(t, file)
	}
	if !maps.Equal(got, want) {
		t.Errorf("the packages have\n%s\nexpected\n%s", listed(got), listed(want))
	}
	if host := mustScript(t, dir, "rpm -qp --nosignature --qf '%{BUILDHOST}' "+rpmName); host != "localhost" {
		t.Errorf("the rpm has the name of the machine, %s", host)
	}
	if out := mustScript(t, dir, "rpm -K --nosignature "+rpmName); !strings.HasSuffix(out, ": digests OK\n") {
		t.Errorf("rpm -K prints %s", out)
	}
}

// lintian reports no error and no warning. nix/packages/lintian-overrides has the reasons
// for the ones that it does not report.
func TestPackages_lintian(t *testing.T) {
	t.Parallel()
	dir := needRelease(t)
	testenv.Tool(t, "lintian")
	deb, _, _ := packageFiles(projectVersion(t), runtime.GOARCH)
	out, err := script(dir, "lintian --no-cfg --fail-on error,warning "+deb, "TMPDIR="+t.TempDir())
	if err != nil || strings.Contains(out, "E: ") || strings.Contains(out, "W: ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// lowerVersion returns the version of the packages from which the tests upgrade. It is a
// version before the release, so that the package managers must sort it before that.
func lowerVersion(version string) string {
	release, _, _ := strings.Cut(version, "-")
	return release + "-alpha1"
}

// earlier has the packages of the same files with a lower version.
var earlier = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(testenv.Shared(), "earlier")
	from, err := tagged()
	if err != nil {
		return "", err
	}
	version, err := os.ReadFile("../VERSION")
	if err != nil {
		return "", err
	}
	out, err := script(from, `git clone -q . "$DIR/tree"; cd "$DIR/tree"
		sed -i "s/^## $(<VERSION)/## $LOWER/" CHANGELOG.md; echo "$LOWER" >VERSION; git commit -qam t
		nix/release.sh ../out `+runtime.GOARCH, "DIR="+dir, "LOWER="+lowerVersion(strings.TrimSpace(string(version))),
		fmt.Sprintf("GIT_COMMITTER_DATE=%d +0000", releaseTime-1000)) // so that systemd sees that the units have changed
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "out"), err
})

// Each package manager has the version before a release, and sorts it before the release.
func TestRelease_prerelease(t *testing.T) {
	t.Parallel()
	needTagged(t)
	needNfpm(t)
	testenv.Tools(t, "dpkg", "rpm")
	dir, err := earlier()
	if err != nil {
		t.Fatal(err)
	}
	version := lowerVersion(projectVersion(t))
	release, suffix, _ := strings.Cut(version, "-")
	deb, rpm, apk := packageFiles(version, runtime.GOARCH)
	binary := program + "-" + version + "-linux-" + runtime.GOARCH
	mustScript(t, dir, "sha256sum -c SHA256SUMS")
	for what, c := range map[string]struct{ got, want string }{
		"deb":       {mustScript(t, dir, "dpkg-deb -f "+deb+" Version"), release + "~" + suffix + "-1\n"},
		"changelog": {mustScript(t, dir, "dpkg-deb --fsys-tarfile "+deb+" | tar -xO ./usr/share/doc/"+program+"/changelog.Debian.gz | zcat"), program + " (" + release + "~" + suffix + "-1) unstable"},
		"rpm":       {mustScript(t, dir, "rpm -qp --nosignature --qf '%{VERSION} %{RELEASE}' "+rpm), release + "~" + suffix + " 1"},
		"apk":       {mustScript(t, dir, "tar -xzOf "+apk+" .PKGINFO 2>/dev/null"), "\npkgver = " + release + "_" + suffix + "-r1\n"}, // sorted before the release, see apk-package(5)
		"program":   {mustScript(t, dir, "./"+binary+" --version"), program + " " + version + "\n"},
		"order":     {mustScript(t, dir, fmt.Sprintf(`dpkg --compare-versions %[1]s~%[2]s-1 lt %[1]s-1; rpm --eval '%%{lua:print(rpm.vercmp("%[1]s~%[2]s-1", "%[1]s-1"))}'`, release, suffix)), "-1\n"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q; expected %q", what, c.got, c.want)
		}
	}
}

// copyPackages copies the packages of both versions to a lab, as NAME.deb and so on.
func copyPackages(t *testing.T, l *lab) {
	t.Helper()
	from, err := earlier()
	if err != nil {
		t.Fatal(err)
	}
	for to, dir := range map[string]string{"old": from, "new": needRelease(t)} {
		version := map[string]string{"old": lowerVersion(projectVersion(t)), "new": projectVersion(t)}[to]
		deb, rpm, apk := packageFiles(version, runtime.GOARCH)
		for _, name := range []string{deb, rpm, apk} {
			l.copy(filepath.Join(dir, name), l.path(filepath.Join(to, program+filepath.Ext(name))))
		}
		l.write(filepath.Join(to, "version"), version+"\n", 0o644)
	}
}

// Installs, upgrades, removes and purges the deb and the rpm in a booted Debian. While
// they are upgraded, ingest runs and a program writes lines.
func TestPackages_booted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needRelease(t)
	testenv.Tools(t, "dpkg", "deb-systemd-helper", "rpm")
	copyPackages(t, l)
	l.boot(new(system), "packages.sh")
	if text := testenv.ReadFile(t, l.path("out/image")); regexp.MustCompile(`(?i)systemctl|not been booted|failed|error`).MatchString(text) {
		t.Errorf("without a running systemd, dpkg prints\n%s", text)
	}
	t.Log(testenv.ReadFile(t, l.path("out/upgrades")))
}

// The OpenRC service of the apk runs under the openrc of Debian.
func TestPackages_OpenRC(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needRelease(t)
	testenv.Tools(t, "/sbin/openrc-run", "/sbin/supervise-daemon", "pgrep")
	copyPackages(t, l)
	l.boot(new(system), "openrc.sh")
	if got, want := testenv.ReadFile(t, l.path("out/modes")), "drwxr-xr-x root root\nprw--w---- root adm\n"; got != want {
		t.Errorf("the state directory and the FIFO are\n%s; expected\n%s", got, want)
	}
	if got := testenv.ReadFile(t, l.path("out/left")); got != "" {
		t.Errorf("after the package was removed, these processes run: %s", got)
	}
}
