package strictjson

import "bytes"

// number reads the number at src[at], of which the digits stay as written.
func number(src []byte, at int) (next int, err error) {
	end, near, err := scanNumber(src, at)
	if err != nil {
		return end, err
	}
	if !near && !inRange(src[at:end]) {
		return at, errorAt(at, "expected a number in the range of an IEEE 754 double")
	}
	return end, nil
}

// nearLen is up to what length a number with no exponent, or one of two digits,
// needs no second look: it is below 10^(200+99).
const nearLen = 200

// scanNumber returns the end of the number at src[at] (RFC 8259 section 6), and
// whether it is near enough to zero to be in range at a glance.
func scanNumber(src []byte, at int) (end int, near bool, err error) {
	whole := at
	if src[at] == '-' {
		whole++
	}
	end, err = digits(src, whole)
	if err != nil {
		return end, false, err
	}
	if src[whole] == '0' {
		end = whole + 1
	}
	if hasByte(src, end, '.') {
		end, err = digits(src, end+1)
		if err != nil {
			return end, false, err
		}
	}
	power := end
	if hasByte(src, end, 'e') || hasByte(src, end, 'E') {
		end++
		if hasByte(src, end, '+') || hasByte(src, end, '-') {
			end++
		}
		end, err = digits(src, end)
		if err != nil {
			return end, false, err
		}
	}
	return end, end-at <= nearLen && end-power <= len("e99"), nil
}

// digits returns the end of the digits at src[at], of which there is one at
// least.
func digits(src []byte, at int) (end int, err error) {
	end = at
	for end < len(src) && '0' <= src[end] && src[end] <= '9' {
		end++
	}
	if end == at {
		return end, errorAt(end, "expected a digit")
	}
	return end, nil
}

// longestPowered is how long a number with an exponent may be. Readers stop
// counting an exponent somewhere (Go's strconv at 10000, David Gay's strtod,
// which Python and jq carry, at 19999), so where the mantissa is long enough to
// reach back over that, the number is 1 to one of them and infinite to another.
const longestPowered = 4096

// These bound the first seventeen digits of a number of 309 places, that is
// from 1e308 on. The largest double is 1.7976931348623157e308 to seventeen
// digits, and correct rounding takes even the 158 after that down to it.
// serde_json does not round correctly: unless told otherwise it takes as many
// digits as fit 64 bits, as a double, times a power of ten from a table, and
// refuses when the product is infinite. For a given count of digits that product
// never falls when the digits rise, so the largest of each count tells for all:
// up to eighteen digits the whole range is safe, while of nineteen
// 1797693134862315649, and of twenty 17976931348623156225, are too much, however
// exact.
const (
	boundShort = "17976931348623157" // for up to eighteen digits
	boundLong  = "17976931348623155"
)

// inRange reports whether every reader has a double for the number. It counts
// places and compares digits: to convert would be to trust one reader's
// rounding. A number too small for a double is zero to all of them.
func inRange(number []byte) bool {
	mantissa, power := cutPower(number)
	if len(mantissa) < len(number) && len(number) > longestPowered {
		return false
	}
	whole, fraction, _ := bytes.Cut(bytes.TrimLeft(mantissa, "-0"), []byte("."))
	places := len(whole) + power // of 0.ddd times ten to that, d > 0
	if len(whole) == 0 {
		significant := bytes.TrimLeft(fraction, "0")
		places -= len(fraction) - len(significant)
		fraction = significant
	}
	count := len(whole) + len(fraction)
	if count == 0 || places != 309 {
		return count == 0 || places < 309
	}
	var head [len(boundLong)]byte
	n := copy(head[:], whole)
	n += copy(head[n:], fraction)
	if count <= 18 {
		return string(head[:n]) <= boundShort
	}
	return string(head[:n]) <= boundLong
}

// cutPower returns what stands before the exponent, and the exponent; one that
// is far beyond any number of longestPowered bytes is left at about that.
func cutPower(number []byte) (mantissa []byte, power int) {
	at := bytes.IndexAny(number, "eE")
	if at < 0 {
		return number, 0
	}
	for _, c := range number[at+1:] {
		if '0' <= c && c <= '9' && power < 1_000_000 {
			power = power*10 + int(c-'0')
		}
	}
	if number[at+1] == '-' {
		power = -power
	}
	return number[:at], power
}
