package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFirstLine is how many bytes of a program execve(2) reads to find its interpreter.
const maxFirstLine = 256

// maxNesting is how many interpreters execve(2) accepts if each is itself a script.
const maxNesting = 5

// openProgram opens a file to read what execve(2) reads of it. It opens only regular files,
// as execve(2) does: the open of a FIFO, or a read of a terminal, could wait forever.
func openProgram(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = syscall.EACCES
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// firstLine returns the first line of a file, or its start; "" if it cannot be read.
func firstLine(path string) string {
	f, err := openProgram(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	start := make([]byte, maxFirstLine)
	n, _ := f.Read(start)
	line, _, _ := strings.Cut(string(start[:n]), "\n")
	return line
}

// isELF reports whether a file is in the format of binaries.
func isELF(path string) bool { return strings.HasPrefix(firstLine(path), "\x7fELF") }

// interpreterOf returns the interpreter that the first line of a script names, and its
// argument, as execve(2) reads them.
func interpreterOf(script string) (interpreter, argument string, isScript bool) {
	line, isScript := strings.CutPrefix(firstLine(script), "#!")
	line = strings.Trim(line, " \t")
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		return line, "", isScript
	}
	return line[:end], strings.TrimLeft(line[end:], " \t"), isScript
}

// hasCutInterpreter reports whether the path of a script's interpreter is so long that
// execve(2) does not read all of it.
func hasCutInterpreter(script string) bool {
	_, argument, isScript := interpreterOf(script)
	return isScript && argument == "" && len(firstLine(script)) == maxFirstLine
}

// explainInterpreter returns why an executable file cannot be run because of its
// interpreter or its dynamic loader, and what to do; "" if both can be used.
func explainInterpreter(program string) (what, remedy string) {
	if hasCutInterpreter(program) {
		return fmt.Sprintf("the path of its interpreter is longer than the kernel reads, %d bytes", maxFirstLine-len("#!")), "use a shorter path, or start the interpreter itself"
	}
	// file is the script whose interpreter is checked, its how a message refers to it.
	file, its := program, "its"
	for range maxNesting {
		interpreter, _, isScript := interpreterOf(file)
		if !isScript {
			return explainLoader(file, its)
		}
		if interpreter == "" {
			return "", "" // the kernel does not treat it as a script
		}
		what := fmt.Sprintf("%s interpreter %s ", its, interpreter)
		info, err := os.Stat(interpreter)
		switch {
		case strings.HasSuffix(interpreter, "\r"):
			return fmt.Sprintf("%s interpreter %q ends in a carriage return", its, interpreter), "convert " + file + " to Unix line ends"
		case errors.Is(err, fs.ErrNotExist):
			return what + "does not exist", "install it, or correct the first line of " + file
		case err != nil:
			return what + "cannot be used: " + errors.Unwrap(err).Error(), "correct the first line of " + file
		case info.IsDir():
			return what + "is a directory", "correct the first line of " + file
		case !info.Mode().IsRegular():
			return what + "is not a regular file", "correct the first line of " + file
		case unix.Access(interpreter, unix.X_OK) != nil:
			return what + "is not executable", "check its mode, or correct the first line of " + file
		}
		file, its = interpreter, "its interpreter "+interpreter+": its"
	}
	if _, _, isScript := interpreterOf(file); isScript {
		interpreter, _, _ := interpreterOf(program)
		return "its interpreter " + interpreter + " is a script with too many interpreters", "correct the first line of " + program
	}
	return "", ""
}

// explainLoader is explainInterpreter for a binary.
func explainLoader(binary, its string) (what, remedy string) {
	loader := loaderOf(binary)
	if loader == "" || unix.Access(loader, unix.X_OK) == nil {
		return "", ""
	}
	_, err := os.Stat(loader)
	if errors.Is(err, fs.ErrNotExist) {
		return its + " dynamic loader " + loader + " does not exist", "install the C library for which it was built"
	}
	return its + " dynamic loader " + loader + " is not executable", "check its mode"
}

// loaderOf returns the dynamic loader that a binary names (elf(5), PT_INTERP); "" if it
// names none. Package debug/elf would do the same, and make this program 5% larger.
func loaderOf(path string) string {
	f, err := openProgram(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	start := make([]byte, 4096) // linkers put the program headers right after the ELF header
	n, _ := f.Read(start)
	start = start[:n]
	if n < 64 || !bytes.HasPrefix(start, []byte("\x7fELF")) {
		return ""
	}
	order := binary.NativeEndian // execve(2) runs no other
	number := func(from []byte) uint64 { return uint64(order.Uint32(from)) }
	table, size, count := number(start[28:]), order.Uint16(start[42:]), order.Uint16(start[44:]) // e_phoff, e_phentsize, e_phnum
	offset, length := 4, 16                                                                      // p_offset, p_filesz
	if start[4] == 2 {                                                                           // ELFCLASS64
		number = order.Uint64
		table, size, count = number(start[32:]), order.Uint16(start[54:]), order.Uint16(start[56:])
		offset, length = 8, 32
	}
	const interp = 3 // PT_INTERP
	for i := range uint64(count) {
		from, to := table+i*uint64(size), table+(i+1)*uint64(size)
		if from > to || to > uint64(n) || int(size) < length+8 {
			return ""
		}
		header := start[from:to]
		if order.Uint32(header) == interp {
			name := make([]byte, min(number(header[length:]), unix.PathMax))
			n, _ := f.ReadAt(name, int64(number(header[offset:])))
			name, _, _ = bytes.Cut(name[:n], []byte{0})
			return string(name)
		}
	}
	return ""
}

// explainArgument returns why a script has exited with a failure, and what to do, if the
// cause is the argument in its first line; "" otherwise. execve(2) passes a carriage
// return at the end of the line on to the interpreter, and does not check what env(1) is
// to look up.
func explainArgument(script, path string, code int) (what, remedy string) {
	interpreter, argument, isScript := interpreterOf(script)
	words := strings.Fields(argument)
	if !isScript || len(words) == 0 {
		return "", ""
	}
	if strings.HasSuffix(argument, "\r") {
		return fmt.Sprintf("its first line gives %s the argument %q, which ends in a carriage return", interpreter, argument), "convert " + script + " to Unix line ends"
	}
	if filepath.Base(interpreter) != "env" || (code != exitNotFound && code != exitNotStarted) {
		return "", ""
	}
	for len(words) > 1 && (words[0] == "-S" || isAssignment(words[0])) {
		words = words[1:]
	}
	_, err := lookUp(words[0], path)
	switch {
	case err == nil, strings.HasPrefix(words[0], "-"):
		return "", ""
	case err == syscall.EACCES:
		return "its interpreter " + words[0] + " is not executable", "check its mode, or correct the first line of " + script
	}
	return "its interpreter " + words[0] + " was not found", "install it, or correct the first line of " + script
}
