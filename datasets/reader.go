package datasets

import (
	"bytes"
	"errors"
	"hash"
	"io"

	"github.com/glm46/glm46/datasets/jsonscan"
)

// window is a stream seen through a buffer that holds at least one whole
// record, with the number of the line at its beginning.
type window struct {
	r     io.Reader
	buf   []byte
	start int // of what is not used yet
	end   int
	err   error     // what ended the stream, io.EOF for its end
	line  int64     // line of buf[start], from 1
	n     int64     // bytes read from r
	sum   hash.Hash // of those, or nil
	limit int       // largest record
}

const firstBuffer = 1 << 18

func newWindow(buf []byte, limit int) *window {
	if buf == nil {
		buf = make([]byte, firstBuffer)
	}
	return &window{buf: buf, line: 1, limit: limit}
}

// reset begins another stream in the same buffer.
func (w *window) reset(r io.Reader, sum hash.Hash) {
	*w = window{r: r, buf: w.buf, line: 1, limit: w.limit, sum: sum}
}

func (w *window) rest() []byte { return w.buf[w.start:w.end] }

// more reads on. It returns false at the end of the stream and when the buffer
// holds a record above the limit (tooLong then says so).
func (w *window) more() bool {
	if w.err != nil {
		return false
	}
	if w.start > 0 && w.end == len(w.buf) {
		copy(w.buf, w.buf[w.start:w.end])
		w.end -= w.start
		w.start = 0
	}
	if w.end == len(w.buf) {
		if len(w.buf) > w.limit {
			return false
		}
		grown := make([]byte, min(2*len(w.buf), w.limit+1))
		w.end = copy(grown, w.buf[:w.end])
		w.buf = grown
	}
	// Fill what is free: fewer, larger steps.
	for w.end < len(w.buf) {
		n, err := w.r.Read(w.buf[w.end:])
		if w.sum != nil {
			w.sum.Write(w.buf[w.end : w.end+n])
		}
		w.end += n
		w.n += int64(n)
		if err != nil {
			w.err = err
			return n > 0 || w.end > w.start
		}
		if n > 0 {
			return true
		}
	}
	return true
}

// tooLong says that more gave up because the record is above the limit.
func (w *window) tooLong() bool { return w.err == nil && w.end-w.start > w.limit }

// failed returns the error that ended the stream early, or nil.
func (w *window) failed() error {
	if errors.Is(w.err, io.EOF) {
		return nil
	}
	return w.err
}

// use steps over n bytes and counts their lines.
func (w *window) use(n int) {
	w.line += int64(bytes.Count(w.buf[w.start:w.start+n], newline))
	w.start += n
}

var newline = []byte{'\n'}

// nextLine returns the next line without its line break; ok is false at the
// end. The caller steps over it with use(n).
func (w *window) nextLine() (line []byte, n int, ok bool) {
	from := 0
	for {
		rest := w.rest()
		if i := bytes.IndexByte(rest[from:], '\n'); i >= 0 {
			return rest[:from+i], from + i + 1, true
		}
		from = len(rest)
		if !w.moreOf(from) {
			rest = w.rest()
			// Where the stream broke, half a line is no line.
			return rest, len(rest), len(rest) > 0 && !w.tooLong() && w.failed() == nil
		}
	}
}

// moreOf reads on and says whether there is now more than n bytes.
func (w *window) moreOf(n int) bool {
	for w.more() {
		if w.end-w.start > n {
			return true
		}
		if w.err != nil {
			return false
		}
	}
	return false
}

// skipLine steps over the rest of a line that is too long.
func (w *window) skipLine() {
	for {
		rest := w.rest()
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			w.use(i + 1)
			return
		}
		w.use(len(rest))
		if !w.moreOf(0) {
			return
		}
	}
}

// space steps over white space; false at the end of the stream.
func (w *window) space() bool {
	for {
		w.use(jsonscan.Space(w.rest(), 0))
		if w.start < w.end {
			return true
		}
		if !w.moreOf(0) {
			return false
		}
	}
}

// value returns the next JSON value, reading as much as it takes. The caller
// steps over it with use(n).
func (w *window) value(depth int) (span jsonscan.Span, n int, err *jsonscan.Error) {
	for {
		size := w.end - w.start
		span, n, err = jsonscan.Value(w.rest(), 0, depth)
		// A number or word at the end of the buffer may go on.
		cut := err == nil && n == size && span.Kind != jsonscan.ObjectKind && span.Kind != jsonscan.Array
		if (err == nil && !cut) || (err != nil && !err.Short) {
			return span, n, err
		}
		// Twice as much before the next try, so that the work stays linear.
		for w.end-w.start < 2*size {
			if !w.moreOf(w.end - w.start) {
				if w.end-w.start == size {
					return span, n, err
				}
				break
			}
		}
	}
}
