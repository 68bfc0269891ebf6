package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// TimedReader gives bytes of a stream with the moment they were read from the
// socket, since the run began. It follows io.Reader otherwise.
type TimedReader interface {
	ReadTimed(p []byte) (n int, at time.Duration, err error)
}

// MaxEventBytes is the longest event that is accepted.
const MaxEventBytes = 16 << 20

// streamBufferBytes holds some 60 events; a stream keeps one such buffer.
const streamBufferBytes = 16 << 10

// SSEError is a stream that breaks the rules of server-sent events.
type SSEError struct{ What string }

func (e *SSEError) Error() string { return "not a valid event stream: " + e.What }

// SSEReader splits a stream into server-sent events, as in the WHATWG HTML
// standard, 9.2.6, with two differences: a line whose field is none of data,
// event, id, retry is an error, since servers of this API never send one and a
// broken stream must not pass; and a last event without its blank line counts
// at a clean end of the stream. Lines end with LF or CRLF.
//
// It allocates only when an event does not fit its buffer. The zero value is
// not usable; see Reset.
type SSEReader struct {
	src  TimedReader
	buf  []byte
	base []byte
	r, w int // unread bytes are buf[r:w]
	at   time.Duration
	err  error
	// joined holds the data of an event with several data lines.
	joined    []byte
	lines     int // data lines seen in the whole stream
	checkBOM  bool
	bytesRead int64
}

// NewSSEReader reads events from src.
func NewSSEReader(src TimedReader) *SSEReader {
	s := &SSEReader{}
	s.Reset(src)
	return s
}

// Reset makes s read another stream, keeping its buffer.
func (s *SSEReader) Reset(src TimedReader) {
	if s.base == nil {
		s.base = make([]byte, streamBufferBytes)
	}
	*s = SSEReader{src: src, base: s.base, buf: s.base, joined: s.joined[:0], checkBOM: true}
}

// DataLines counts the data lines so far: none at the end means that the body
// was no event stream.
func (s *SSEReader) DataLines() int { return s.lines }

// BytesRead is the length of the stream so far.
func (s *SSEReader) BytesRead() int64 { return s.bytesRead }

// Next returns the data of the next event and when its last byte was read. The
// data are valid until the next call. At the end of the stream it returns
// io.EOF, on a broken stream an *SSEError, else what the source returned.
func (s *SSEReader) Next() ([]byte, time.Duration, error) {
	var (
		pos  int  // start of the line under work, relative to r
		seek int  // where the search for its end goes on, relative to r
		from = -1 // data of the event so far: buf[r+from : r+to]
		to   int
		many bool // the data are in s.joined
	)
	for {
		i := bytes.IndexByte(s.buf[s.r+seek:s.w], '\n')
		if i < 0 {
			seek = s.w - s.r
			if err := s.fill(); err != nil {
				if err == io.EOF && pos == seek {
					// The stream ended behind a whole line: its event counts.
					if many {
						s.r = s.w
						return s.joined, s.at, nil
					}
					if from >= 0 {
						data := s.buf[s.r+from : s.r+to]
						s.r = s.w
						return data, s.at, nil
					}
				}
				if err == io.EOF {
					if data, ok := s.lastWords(pos, from, many); ok {
						return data, s.at, nil
					}
				}
				return nil, s.at, err
			}
			continue
		}
		end := seek + i
		next := end + 1
		line := s.buf[s.r+pos : s.r+end]
		if len(line) > 0 && line[len(line)-1] == '\r' {
			line = line[:len(line)-1]
		}
		if s.checkBOM {
			s.checkBOM = false
			if bytes.HasPrefix(line, []byte("\xEF\xBB\xBF")) {
				line = line[3:]
				pos += 3
			}
		}
		switch {
		case len(line) == 0:
			if many || from >= 0 {
				data := s.joined
				if !many {
					data = s.buf[s.r+from : s.r+to]
				}
				s.r += next
				return data, s.at, nil
			}
			s.r += next // nothing but blank lines, comments and fields without data
			pos, seek = 0, 0
			continue
		case len(line) >= 5 && line[0] == 'd' && string(line[:5]) == "data:":
			skip := 5
			if len(line) > 5 && line[5] == ' ' {
				skip = 6
			}
			s.lines++
			switch {
			case many:
				s.joined = append(append(s.joined, '\n'), line[skip:]...)
			case from >= 0:
				many = true
				s.joined = append(s.joined[:0], s.buf[s.r+from:s.r+to]...)
				s.joined = append(append(s.joined, '\n'), line[skip:]...)
			default:
				from, to = pos+skip, pos+len(line)
			}
			if len(s.joined) > MaxEventBytes {
				return nil, s.at, &SSEError{fmt.Sprintf("an event of more than %d bytes", MaxEventBytes)}
			}
		case line[0] == ':':
		default:
			name, _, _ := bytes.Cut(line, []byte(":"))
			switch string(name) {
			case "data": // without a colon: an empty line of data
				s.lines++
				if !many && from < 0 {
					from, to = pos, pos
				} else {
					if !many {
						many = true
						s.joined = append(s.joined[:0], s.buf[s.r+from:s.r+to]...)
					}
					s.joined = append(s.joined, '\n')
				}
			case "event", "id", "retry":
			default:
				return nil, s.at, &SSEError{fmt.Sprintf("line %q", cut(line, 80))}
			}
		}
		if many || from < 0 {
			// Nothing before this line is needed any more.
			s.r += next
			pos, seek = 0, 0
			if many {
				from = -1
			}
			continue
		}
		pos, seek = next, next
	}
}

// lastWords accepts "data: [DONE]" as the very last bytes of a stream, without
// a line end.
func (s *SSEReader) lastWords(pos, from int, many bool) ([]byte, bool) {
	if from >= 0 || many {
		return nil, false
	}
	rest, found := bytes.CutPrefix(s.buf[s.r+pos:s.w], []byte("data:"))
	if found && string(bytes.TrimSpace(rest)) == "[DONE]" {
		s.r = s.w
		s.lines++
		return []byte("[DONE]"), true
	}
	return nil, false
}

var errSlowSource = errors.New("the source gave no bytes and no error 100 times")

// fill reads more bytes behind buf[w], moving or growing the buffer if needed.
func (s *SSEReader) fill() error {
	if s.err != nil {
		return s.err
	}
	switch {
	case s.r == s.w:
		s.r, s.w, s.buf = 0, 0, s.base
	case s.w == len(s.buf) && s.r > 0:
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	if s.w == len(s.buf) {
		if s.w >= MaxEventBytes {
			return &SSEError{fmt.Sprintf("an event of more than %d bytes", MaxEventBytes)}
		}
		bigger := make([]byte, min(2*len(s.buf), MaxEventBytes))
		copy(bigger, s.buf[:s.w])
		s.buf = bigger
	}
	for range 100 {
		n, at, err := s.src.ReadTimed(s.buf[s.w:])
		s.w += n
		s.bytesRead += int64(n)
		s.err = err
		if n > 0 {
			s.at = at
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.err = errSlowSource
	return s.err
}

func cut(b []byte, n int) []byte { return b[:min(n, len(b))] }
