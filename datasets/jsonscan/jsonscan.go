// Package jsonscan checks JSON text in place and finds the members of its
// objects: strictly (what encoding/json accepts, no more and no less, but for
// the depth limit) and at the speed of memory, for lines that are one long
// string each.
//
// It exists because the libraries made for speed are lax inside strings
// (control characters and unknown escapes pass), and the strict ones are three
// to ten times slower: docs/datasets.md, "JSON".
//
// Read first: [Value], [Object]. It is pure.
package jsonscan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Kind of a JSON value.
type Kind uint8

// The kinds. The zero value means that there is no value.
const (
	None Kind = iota
	String
	Number
	Bool
	Null
	Array
	ObjectKind
)

// String names the kind with its article, for messages.
func (k Kind) String() string {
	return [...]string{"nothing", "a string", "a number", "true or false", "null", "an array", "an object"}[k]
}

// Span is a value inside a text.
type Span struct {
	Kind Kind
	// Raw is the text of the value, with the quotes of a string.
	Raw []byte
	// At is where the value begins in the text that was given.
	At int
	// Escaped says that a string has a backslash.
	Escaped bool
	// Unusual says that a string has an escape that another writer would not
	// use (\u, \/): equal strings may then be written in different ways.
	Unusual bool
}

// Error says where a text stops being JSON.
type Error struct {
	// Offset in bytes from the beginning of the text.
	Offset int
	// What is wrong there.
	What string
	// Short says that the text ended too early: with more of it the error may
	// go away.
	Short bool
	// Deep says that the depth limit was passed.
	Deep bool
}

// Error returns What.
func (e *Error) Error() string { return e.What }

func short(b []byte, what string) *Error {
	return &Error{Offset: len(b), What: "ends inside " + what, Short: true}
}

func unexpected(b []byte, i int, want string) *Error {
	return &Error{Offset: i, What: fmt.Sprintf("unexpected %s, want %s", char(b[i]), want)}
}

func char(c byte) string {
	if c >= 0x20 && c < 0x7f {
		return fmt.Sprintf("'%c'", c)
	}
	return fmt.Sprintf("byte 0x%02x", c)
}

// Space returns the first place from i on that is not white space.
func Space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// Value checks the value that begins at b[i] and returns it with its end.
// depth is how many arrays and objects may be nested.
func Value(b []byte, i, depth int) (Span, int, *Error) {
	if i >= len(b) {
		return Span{}, i, short(b, "a value")
	}
	switch c := b[i]; {
	case c == '"':
		end, flags, err := str(b, i+1)
		if err != nil {
			return Span{}, i, err
		}
		return Span{Kind: String, Raw: b[i:end], At: i, Escaped: flags&escaped != 0, Unusual: flags&unusual != 0}, end, nil
	case c == '{':
		end, err := object(b, i, depth, nil)
		if err != nil {
			return Span{}, i, err
		}
		return Span{Kind: ObjectKind, Raw: b[i:end], At: i}, end, nil
	case c == '[':
		end, err := array(b, i, depth, nil)
		if err != nil {
			return Span{}, i, err
		}
		return Span{Kind: Array, Raw: b[i:end], At: i}, end, nil
	case c == '-' || c >= '0' && c <= '9':
		end, err := number(b, i)
		if err != nil {
			return Span{}, i, err
		}
		return Span{Kind: Number, Raw: b[i:end], At: i}, end, nil
	case c == 't':
		return literal(b, i, "true", Bool)
	case c == 'f':
		return literal(b, i, "false", Bool)
	case c == 'n':
		return literal(b, i, "null", Null)
	}
	return Span{}, i, unexpected(b, i, "a value")
}

// Object checks the object that begins at b[i], which is '{', and calls fn for
// each member, in order. The spans hold as long as b does.
func Object(b []byte, i, depth int, fn func(key, value Span)) (int, *Error) {
	return object(b, i, depth, fn)
}

// Elements checks the array that begins at b[i], which is '[', and calls fn
// for each element, in order.
func Elements(b []byte, i, depth int, fn func(Span)) (int, *Error) {
	return array(b, i, depth, fn)
}

func object(b []byte, i, depth int, fn func(key, value Span)) (int, *Error) {
	if depth <= 0 {
		return i, &Error{Offset: i, What: "is nested too deep", Deep: true}
	}
	i = Space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(b) {
			return i, short(b, "an object")
		}
		if b[i] != '"' {
			return i, unexpected(b, i, "a member's name in double quotes")
		}
		start := i
		end, flags, err := str(b, i+1)
		if err != nil {
			return i, err
		}
		key := Span{Kind: String, Raw: b[start:end], Escaped: flags&escaped != 0}
		i = Space(b, end)
		if i >= len(b) {
			return i, short(b, "an object")
		}
		if b[i] != ':' {
			return i, unexpected(b, i, "':' after a member's name")
		}
		val, end, err := Value(b, Space(b, i+1), depth-1)
		if err != nil {
			return i, err
		}
		if fn != nil {
			fn(key, val)
		}
		i = Space(b, end)
		if i >= len(b) {
			return i, short(b, "an object")
		}
		switch b[i] {
		case ',':
			i = Space(b, i+1)
		case '}':
			return i + 1, nil
		default:
			return i, unexpected(b, i, "',' or '}' after a member")
		}
	}
}

func array(b []byte, i, depth int, fn func(Span)) (int, *Error) {
	if depth <= 0 {
		return i, &Error{Offset: i, What: "is nested too deep", Deep: true}
	}
	i = Space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		val, end, err := Value(b, i, depth-1)
		if err != nil {
			return i, err
		}
		if fn != nil {
			fn(val)
		}
		i = Space(b, end)
		if i >= len(b) {
			return i, short(b, "an array")
		}
		switch b[i] {
		case ',':
			i = Space(b, i+1)
		case ']':
			return i + 1, nil
		default:
			return i, unexpected(b, i, "',' or ']' after an element")
		}
	}
}

func literal(b []byte, i int, word string, kind Kind) (Span, int, *Error) {
	for k := 0; k < len(word); k++ {
		if i+k >= len(b) {
			return Span{}, i, short(b, "a word")
		}
		if b[i+k] != word[k] {
			return Span{}, i, &Error{Offset: i + k, What: fmt.Sprintf("unexpected %s in the word %q", char(b[i+k]), word)}
		}
	}
	return Span{Kind: kind, Raw: b[i : i+len(word)], At: i}, i + len(word), nil
}

func number(b []byte, i int) (int, *Error) {
	digits := func(i int) (int, *Error) {
		if i >= len(b) {
			return i, short(b, "a number")
		}
		if b[i] < '0' || b[i] > '9' {
			return i, unexpected(b, i, "a digit")
		}
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i, nil
	}
	if b[i] == '-' {
		i++
	}
	var err *Error
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, err = digits(i); err != nil {
		return i, err
	}
	if i < len(b) && b[i] == '.' {
		if i, err = digits(i + 1); err != nil {
			return i, err
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i, err = digits(i); err != nil {
			return i, err
		}
	}
	return i, nil
}

const (
	escaped = 1 << iota
	unusual
)

// Eight equal bytes, for looking at eight bytes at once.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// simple marks the characters that make an escape of two bytes in the form
// that every writer uses.
var simple = [256]bool{'n': true, '"': true, '\\': true, 't': true, 'r': true, 'b': true, 'f': true}

// Strings are short, as names and ids are, or they are the text of a sample:
// after shortBytes plain looks ahead, and again where it gave up.
const shortBytes = 64

// str checks the string whose first character is at b[i] and returns the place
// after its closing quote.
func str(b []byte, i int) (int, int, *Error) {
	flags := 0
	ahead := i + shortBytes
	for {
		if i >= ahead && i < len(b) {
			n, f := plain(b[i:])
			i, flags = i+n, flags|f
			ahead = i + shortBytes
		}
		// Eight bytes at a time up to a quote, backslash or control character.
		// Of the marks that a subtraction leaves in a word, only the lowest is
		// sure, which is the one that is used.
		for i+8 <= len(b) && i < ahead {
			w := binary.LittleEndian.Uint64(b[i:])
			quote := w ^ '"'*ones
			slash := w ^ '\\'*ones
			marks := ((quote-ones)&^quote | (slash-ones)&^slash | (w-0x20*ones)&^w) & highs
			if marks != 0 {
				i += bits.TrailingZeros64(marks) / 8
				break
			}
			i += 8
		}
		if i >= ahead && i < len(b) {
			continue
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			i++
		}
		for i+1 < len(b) && b[i] == '\\' && simple[b[i+1]] {
			flags |= escaped
			i += 2
		}
		if i >= len(b) {
			return i, flags, short(b, "a string")
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, flags, nil
		case c == '\\':
			n, flag, err := escape(b, i)
			if err != nil {
				return i, flags, err
			}
			flags |= flag
			i += n
		case c < 0x20:
			return i, flags, &Error{Offset: i, What: fmt.Sprintf("raw control character (%s) in a string", char(c))}
		}
	}
}

func escape(b []byte, i int) (n, flags int, err *Error) {
	if i+1 >= len(b) {
		return 0, 0, short(b, "a string")
	}
	switch b[i+1] {
	case 'n', '"', '\\', 't', 'r', 'b', 'f':
		return 2, escaped, nil
	case '/':
		return 2, escaped | unusual, nil
	case 'u':
		for k := i + 2; k < i+6; k++ {
			if k >= len(b) {
				return 0, 0, short(b, "a string")
			}
			if hex(b[k]) < 0 {
				return 0, 0, unexpected(b, k, `four hexadecimal digits after \u`)
			}
		}
		return 6, escaped | unusual, nil
	}
	return 0, 0, unexpected(b, i+1, `one of "\/bfnrtu after a backslash`)
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
