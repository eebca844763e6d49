package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A sizeValue is a flag.Value: a number of bytes, which may end in K, M or G for
// powers of 1024.
type sizeValue struct {
	bytes    *int64
	min, max int64 // max 0 means any size
}

// sizeVar declares a flag for a size of at least min bytes and, unless max is 0, at
// most max.
func (f *flagSet) sizeVar(p *int64, name string, value, min, max int64) {
	*p = value
	f.Var(&sizeValue{p, min, max}, name, "")
}

// sizeUnits are the suffixes of a size, the largest first.
const sizeUnits = "GMK"

func (v *sizeValue) String() string {
	if v.bytes == nil { // flag.FlagSet calls it on a zero value
		return ""
	}
	return sizeText(*v.bytes)
}

func (v *sizeValue) Get() any { return *v.bytes }

// Set sets the size. Its error describes the sizes that are accepted.
func (v *sizeValue) Set(text string) error {
	n, ok := parseSize(text)
	switch {
	case !ok:
		return errors.New("a size such as 500000, 512K, 8M or 1G" + sizeHint(text))
	case v.max > 0 && (n < v.min || n > v.max):
		return fmt.Errorf("a size from %s to %s", sizeText(v.min), sizeText(v.max))
	case n < v.min:
		return fmt.Errorf("a size of %s or more", sizeText(v.min))
	}
	*v.bytes = n
	return nil
}

// sizeHint suggests a size if text has one of the units that other programs accept.
func sizeHint(text string) string {
	upper := strings.TrimSpace(strings.ToUpper(text))
	short := strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(upper, "B"), "I"), " ", "")
	if _, ok := parseSize(short); !ok || short == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", short)
}

// parseSize parses a size. ok is false also if it exceeds an int64.
func parseSize(text string) (n int64, ok bool) {
	digits, unit := text, int64(1)
	for i := range len(sizeUnits) {
		suffix := sizeUnits[i : i+1]
		before, found := strings.CutSuffix(strings.ToUpper(text), suffix)
		if found {
			digits, unit = before, 1<<(10*(len(sizeUnits)-i))
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// sizeText returns a size with the largest unit that divides it.
func sizeText(n int64) string {
	for i := range len(sizeUnits) {
		unit := int64(1) << (10 * (len(sizeUnits) - i))
		if n != 0 && n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + sizeUnits[i:i+1]
		}
	}
	return strconv.FormatInt(n, 10)
}
