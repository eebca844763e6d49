package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// If the interpreter of a script cannot be used, the result and stderr name it.
func TestRun_interpreter(t *testing.T) {
	files := map[string]string{"script": "#!/no/such\n", "deep7": "#!/bin/sh\nexit 3\n"}
	for i := range 6 {
		files[fmt.Sprintf("deep%d", i+1)] = fmt.Sprintf("#!DIR/deep%d\n", i+2)
	}
	long := "/" + strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		program, message, warning string
		code                      int
	}{
		"missing": {"#!/no/such -e\n", "cannot be run: its interpreter /no/such does not exist",
			"its interpreter /no/such does not exist; install it, or correct the first line of DIR/job", 127},
		"missing, tab": {"#! \t/no/such\t-e\n", "cannot be run: its interpreter /no/such does not exist", "", 127},
		"carriage return": {"#!/bin/sh\r\n", `cannot be run: its interpreter \"/bin/sh\\r\" ends in a carriage return`,
			`its interpreter "/bin/sh\r" ends in a carriage return; convert DIR/job to Unix line ends`, 127},
		"directory":      {"#!/\n", "cannot be run: its interpreter / is a directory", "correct the first line of DIR/job", 126},
		"FIFO":           {"#!DIR/fifo\n", "cannot be run: its interpreter DIR/fifo is not a regular file", "correct the first line of DIR/job", 126},
		"not executable": {"#!DIR/text\n", "cannot be run: its interpreter DIR/text is not executable", "check its mode", 126},
		"below a file":   {"#!DIR/text/sh\n", "cannot be run: its interpreter DIR/text/sh cannot be used: not a directory", "", 126},
		"link to itself": {"#!DIR/link\n", "cannot be run: its interpreter DIR/link cannot be used: too many levels of symbolic links", "", 126},
		"itself":         {"#!DIR/job\n", "cannot be run: its interpreter DIR/job is a script with too many interpreters", "", 126},
		"nested":         {"#!DIR/script\n", "cannot be run: its interpreter DIR/script: its interpreter /no/such does not exist", "correct the first line of DIR/script", 127},
		"five scripts":   {"#!DIR/deep4\n", "exited with 3", "", 3},
		"six scripts":    {"#!DIR/deep3\n", "cannot be run: its interpreter DIR/deep3 is a script with too many interpreters", "", 126},
		"too long":       {"#!" + long + "\n", "cannot be run: the path of its interpreter is longer than the kernel reads, 254 bytes", "use a shorter path", 126},
		// The kernel starts env or the interpreter, which reports only what it was given.
		"env":               {"#!/usr/bin/env no-such-program\n", "exited with 127; its interpreter no-such-program was not found", "", 127},
		"env, mode":         {"#!/usr/bin/env text\n", "exited with 126; its interpreter text is not executable", "", 126},
		"env -S":            {"#!/usr/bin/env -S A=1 no-such-program -u\n", "exited with 127; its interpreter no-such-program was not found", "", 127},
		"env finds it":      {"#!/usr/bin/env sh\nexit 127\n", "exited with 127", "", 127},
		"env, return":       {"#!/usr/bin/env sh\r\n", `exited with 127; its first line gives /usr/bin/env the argument \"sh\\r\", which ends in a carriage return`, "", 127},
		"argument, return":  {"#!/bin/sh -e\r\nexit 0\n", `exited with 2; its first line gives /bin/sh the argument \"-e\\r\", which ends in a carriage return`, "; convert DIR/job to Unix line ends", 2},
		"without a problem": {"#!/bin/sh -e\nexit 4\n", "exited with 4", "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name, text string, mode os.FileMode) {
				testenv.Must(t, os.WriteFile(dir+"/"+name, []byte(strings.ReplaceAll(text, "DIR", dir)), mode))
			}
			for name, text := range files {
				write(name, text, 0o755)
			}
			write("text", "text\n", 0o644)
			write("job", c.program, 0o755)
			testenv.Must(t, os.Symlink("link", dir+"/link"), unix.Mkfifo(dir+"/fifo", 0o755))
			p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "PATH="+dir+":/usr/bin:/bin") }, "run", "--", dir+"/job")
			stderr := p.exits(c.code)
			p.contains("result.json", `"message": "job `+strings.ReplaceAll(c.message, "DIR", dir)+`"`)
			if warning := strings.ReplaceAll(c.warning, "DIR", dir); !strings.Contains(stderr, warning) {
				t.Errorf("stderr has no %q:\n%s", warning, stderr)
			}
			p.checkDir()
		})
	}
}

// A file that is not a regular one is not opened: that could wait forever.
func TestRun_not_regular_file(t *testing.T) {
	job := t.TempDir() + "/job"
	testenv.Must(t, unix.Mkfifo(job, 0o755))
	p := launch(t, t.TempDir(), nil, "run", "--", job)
	stderr := p.exits(exitNotStarted)
	p.contains("result.json", `"message": "job cannot be run: permission denied"`)
	if warning := job + " is not a regular file; give the path of a program\n"; !strings.Contains(stderr, warning) {
		t.Errorf("stderr has no %q:\n%s", warning, stderr)
	}
}

// If the dynamic loader of a binary is missing, the result and stderr name it.
func TestRun_dynamic_loader(t *testing.T) {
	sh, err := os.ReadFile("/bin/sh")
	testenv.Must(t, err)
	loader := loaderOf("/bin/sh")
	if loader == "" {
		testenv.Missing(t, "a /bin/sh with a dynamic loader")
	}
	dir := t.TempDir()
	other := "/" + strings.Repeat("x", len(loader)-1) // of the same length, so that the headers stay valid
	testenv.Must(t, os.WriteFile(dir+"/job", bytes.Replace(sh, []byte(loader+"\x00"), []byte(other+"\x00"), 1), 0o755))
	p := launch(t, t.TempDir(), nil, "run", "--", dir+"/job")
	stderr := p.exits(exitNotFound)
	message := "its dynamic loader " + other + " does not exist"
	p.contains("result.json", `"message": "job cannot be run: `+message+`"`)
	if warning := dir + "/job: " + message + "; install the C library for which it was built\n"; !strings.Contains(stderr, warning) {
		t.Errorf("stderr has no %q:\n%s", warning, stderr)
	}
}

// loaderOf reads 32-bit binaries, and survives invalid ones.
func TestLoaderOf(t *testing.T) {
	header := make([]byte, 52) // Elf32_Ehdr
	copy(header, "\x7fELF\x01")
	order := binary.NativeEndian
	order.PutUint32(header[28:], 52) // e_phoff
	order.PutUint16(header[42:], 32) // e_phentsize
	order.PutUint16(header[44:], 2)  // e_phnum
	table := make([]byte, 64)
	order.PutUint32(table[32:], 3)   // PT_INTERP
	order.PutUint32(table[36:], 116) // p_offset
	order.PutUint32(table[48:], 8)   // p_filesz
	valid := slices.Concat(header, table, []byte("/loader\x00more"))
	changed := func(at int, b ...byte) []byte {
		text := slices.Clone(valid)
		copy(text[at:], b)
		return text
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"valid":                {valid, "/loader"},
		"not a binary":         {changed(0, 'x'), ""},
		"empty":                {nil, ""},
		"header cut":           {valid[:40], ""},
		"name cut":             {valid[:120], "/loa"},
		"table cut":            {valid[:90], ""},
		"table beyond the end": {changed(28, 255, 255, 255, 255), ""},
		"small entries":        {changed(42, 1, 0), ""},
		"name beyond the end":  {changed(52+36, 255, 255, 255, 255), ""},
		"name too long":        {changed(52+48, 255, 255, 255, 255), "/loader"},
		"64 bits, invalid":     {changed(4, 2), ""},
	} {
		path := t.TempDir() + "/binary"
		testenv.Must(t, os.WriteFile(path, c.text, 0o600))
		if got := loaderOf(path); got != c.want {
			t.Errorf("%s: the loader is %q, expected %q", name, got, c.want)
		}
	}
}
