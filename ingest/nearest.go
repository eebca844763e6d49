package ingest

import "strings"

// Nearest returns the choice that word most likely means: the one that is
// fewest changes of a letter away, if those are no more than two and fewer than
// half of the word. It returns "" if there is none.
func Nearest(word string, choices []string) string {
	if len(word) > 40 {
		return "" // no word of ours is near; and the work grows with its length
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

// distance is the Levenshtein distance of a and b: how many bytes must be put
// in, taken out or changed to make one the other.
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
