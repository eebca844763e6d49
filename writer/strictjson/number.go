package strictjson

import "bytes"

// readNumber reads the number at src[at]. It does not change the digits.
func readNumber(src []byte, at int) (next int, err error) {
	end, surelyInRange, err := scanNumber(src, at)
	if err != nil {
		return end, err
	}
	if !surelyInRange && !inRange(src[at:end]) {
		return at, errorAt(at, "expected a number in the range of an IEEE 754 double; write a larger one as a string")
	}
	return end, nil
}

// inRangeLen is the length in bytes up to which a number whose exponent has at most two
// digits is in the range of a double without a further check: it is below 10^(200+99).
const inRangeLen = 200

// scanNumber returns the offset after the number at src[at] (RFC 8259 section 6).
// surelyInRange is true if inRange need not check the number.
func scanNumber(src []byte, at int) (end int, surelyInRange bool, err error) {
	whole := at
	if src[at] == '-' {
		whole++
	}
	end, err = digitsEnd(src, whole)
	if err != nil {
		return end, false, err
	}
	if src[whole] == '0' {
		end = whole + 1
	}
	if hasByte(src, end, '.') {
		end, err = digitsEnd(src, end+1)
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
		end, err = digitsEnd(src, end)
		if err != nil {
			return end, false, err
		}
	}
	return end, end-at <= inRangeLen && end-power <= len("e99"), nil
}

// digitsEnd returns the offset after the digits at src[at]. There must be at least
// one.
func digitsEnd(src []byte, at int) (end int, err error) {
	end = at
	for end < len(src) && '0' <= src[end] && src[end] <= '9' {
		end++
	}
	if end == at {
		return end, errorAt(end, "expected a digit")
	}
	return end, nil
}

// maxLenWithExponent is the maximum length in bytes of a number with an exponent.
// Readers cap the exponent at different values: Go's strconv at 10000, David
// Gay's strtod, which Python and jq contain, at 19999. With a mantissa of so many
// digits, such as 0.000…1e20000, one reader would get a finite number and another
// one infinity.
const maxLenWithExponent = 4096

// boundShort and boundLong are the largest accepted first seventeen digits of a
// number from 1e308 on. The largest double is 1.7976931348623157e308, to seventeen
// digits. Readers that round correctly accept that and even
// 1.7976931348623158e308. serde_json by default does not round correctly. It
// converts as many digits as fit into 64 bits to a double, multiplies that by a
// power of ten from a table, and rejects the number if the product is infinite.
//
// For a given count of digits, the product never decreases when the digits
// increase, so one bound is enough for each count. Up to eighteen digits,
// serde_json accepts everything up to boundShort. With nineteen digits it rejects
// numbers from 1797693134862315649 on, and with twenty from 17976931348623156225
// on, although some of these are less than the largest double.
const (
	boundShort = "17976931348623157" // for up to eighteen digits
	boundLong  = "17976931348623155" // for more digits
)

// inRange reports whether a number, with or without a minus sign, is in the range
// of a double for every reader. It compares digits instead of converting the
// number, because readers round differently. All readers convert a number that is
// too small for a double to zero.
func inRange(number []byte) bool {
	mantissa, power := splitExponent(number)
	if len(mantissa) < len(number) && len(number) > maxLenWithExponent {
		return false
	}
	whole, fraction, _ := bytes.Cut(bytes.TrimLeft(mantissa, "-0"), []byte("."))
	places := len(whole) + power // the number is 0.d… times 10^places, where d is not 0
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

// splitExponent returns the mantissa and the exponent of a number. It caps the
// exponent in the millions, which maxLenWithExponent digits cannot compensate.
func splitExponent(number []byte) (mantissa []byte, power int) {
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
