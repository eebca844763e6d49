package directive

import (
	"fmt"
	"strings"
)

// Nearest returns the choice that word most likely stands for: the one that is
// the fewest changed letters away, if these are at most two and at most half of
// the choice. It returns "" if there is none.
func Nearest(word string, choices []string) string {
	if len(word) > 40 {
		return "" // no choice is that long, and the work grows with the length
	}
	word = strings.ToLower(word)
	best, least := "", 3
	for _, c := range choices {
		if n := distance(word, c); n < least && 2*n <= len(c) {
			best, least = c, n
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b: how many bytes must be
// inserted, removed or changed to turn one into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// expected names the choices, and the nearest one to text if one is near.
func expected(text []byte, choices []string) string {
	return strings.Join(choices, ", ") + didYouMean(text, choices, strings.ToLower)
}

// didYouMean names the choice nearest to text, in the case given, if one is
// near.
func didYouMean(text []byte, choices []string, letters func(string) string) string {
	word := Nearest(string(text), choices)
	if word == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", letters(word))
}
