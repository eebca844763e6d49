package strictjson

import "strconv"

// An Object builds a JSON object in normal form, one member after the other. The
// zero Object is empty. The caller must not add a name twice. An Object is not
// safe for concurrent use.
//
//	var o strictjson.Object
//	o.Text("signal", "SIGKILL")
//	o.Int("code", 9)
//	text := o.Value()
type Object struct{ text []byte }

// Text adds a string. It replaces each byte that is not valid UTF-8 by U+FFFD.
func (o *Object) Text(name, text string) { o.text = AppendText(o.begin(name), text) }

// Int adds an integer.
func (o *Object) Int(name string, n int64) { o.text = strconv.AppendInt(o.begin(name), n, 10) }

// Uint adds an unsigned integer.
func (o *Object) Uint(name string, n uint64) { o.text = strconv.AppendUint(o.begin(name), n, 10) }

// Bool adds true or false.
func (o *Object) Bool(name string, b bool) { o.text = strconv.AppendBool(o.begin(name), b) }

// Raw adds a value in normal form.
func (o *Object) Raw(name string, v Value) { o.text = append(o.begin(name), v...) }

// Texts adds an array of strings.
func (o *Object) Texts(name string, texts []string) {
	o.text = append(o.begin(name), '[')
	for i, text := range texts {
		if i > 0 {
			o.text = append(o.text, ',')
		}
		o.text = AppendText(o.text, text)
	}
	o.text = append(o.text, ']')
}

// Values adds an array of values in normal form.
func (o *Object) Values(name string, values []Value) {
	o.text = append(o.begin(name), '[')
	for i, v := range values {
		if i > 0 {
			o.text = append(o.text, ',')
		}
		o.text = append(o.text, v...)
	}
	o.text = append(o.text, ']')
}

// begin returns the text with a name and a colon added.
func (o *Object) begin(name string) []byte {
	separator := byte(',')
	if len(o.text) == 0 {
		separator = '{'
	}
	o.text = AppendText(append(o.text, separator), name)
	return append(o.text, ':')
}

// Value returns the object. The value is valid until the next call of a method.
func (o *Object) Value() Value {
	if len(o.text) == 0 {
		return Value("{}")
	}
	return append(o.text, '}')
}

// Reset empties the object and keeps its memory.
func (o *Object) Reset() { o.text = o.text[:0] }
