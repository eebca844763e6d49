package strictjson

import "testing"

func TestCorpus(t *testing.T) {
	accepted, plain := 0, 0
	texts := corpus(30000)
	for _, text := range texts {
		if checkPlain(t, []byte(text)) {
			plain++
		}
		if _, ok := check(t, []byte(text)); ok {
			accepted++
		}
	}
	t.Logf("%d of %d accepted; %d plain objects", accepted, len(texts), plain)
	if plain < len(texts)/100 {
		t.Errorf("%d of %d texts are plain objects: too few", plain, len(texts))
	}
	if accepted < len(texts)/3 || accepted > len(texts)*9/10 {
		t.Errorf("%d of %d accepted: the corpus is too one-sided", accepted, len(texts))
	}
}

func FuzzNormalise(f *testing.F) {
	for _, text := range corpus(100) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { check(t, text) })
}

func FuzzAppendText(f *testing.F) {
	for _, part := range stringParts {
		f.Add("1234567" + part + "12345678")
	}
	f.Fuzz(func(t *testing.T, text string) { checkText(t, text) })
}
