package testenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// StrictJSON returns an error unless text is one JSON value that the strictest reader
// accepts: it is valid UTF-8, has no name twice in an object and no lone surrogate, its
// numbers are in the range of a double, and it nests at most 126 levels deep.
func StrictJSON(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("invalid UTF-8")
	}
	if err := strictEscapes(text); err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := strictToken(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("text after the value")
	}
	return nil
}

// strictToken checks the next value.
func strictToken(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Number:
		_, err := strconv.ParseFloat(string(token), 64)
		return err
	case json.Delim:
		if depth >= 126 {
			return errors.New("nested too deep")
		}
		return strictMembers(d, token == '{', depth)
	}
	return nil
}

// strictMembers checks the members of an object or the elements of an array.
func strictMembers(d *json.Decoder, object bool, depth int) error {
	seen := map[json.Token]bool{}
	for d.More() {
		if object {
			name, err := d.Token()
			if err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("%q occurs twice", name)
			}
			seen[name] = true
		}
		if err := strictToken(d, depth+1); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// strictEscapes checks that surrogates come in pairs.
func strictEscapes(text string) error {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		high, ok := surrogate(text[i-1:], 0xd800)
		if ok {
			i += 6
			_, ok = surrogate(text[min(i-1, len(text)):], 0xdc00)
			if !ok {
				return fmt.Errorf("lone surrogate %x", high)
			}
			continue
		}
		if low, ok := surrogate(text[i-1:], 0xdc00); ok {
			return fmt.Errorf("lone surrogate %x", low)
		}
	}
	return nil
}

// surrogate returns the code unit of the escape \uXXXX at the start of text. ok is false
// if there is none, or if it is not one of the 1024 surrogates that start at base.
func surrogate(text string, base uint64) (unit uint64, ok bool) {
	if len(text) < 6 || text[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(text[2:6], 16, 16)
	return n, err == nil && base <= n && n < base+0x400
}
