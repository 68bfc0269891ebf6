package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// spillBytes of packed events stay in memory for each stream, some 2,500
// events; what is more waits in a file, so that memory does not grow with the
// length of the outputs.
const spillBytes = 12 << 10

// eventLog keeps the token events of one stream: pairs of varints, time since
// the event before in nanoseconds and tokens.
type eventLog struct {
	spill *spill
	buf   []byte
	parts []span // in the spill file, in order
	last  time.Duration
	count int
}

// span of a file.
type span struct{ offset, length int64 }

func (l *eventLog) add(at time.Duration, tokens int) {
	l.buf = binary.AppendUvarint(l.buf, uint64(at-l.last))
	l.buf = binary.AppendUvarint(l.buf, uint64(tokens))
	l.last = at
	l.count++
	if len(l.buf) < spillBytes || l.spill == nil || l.spill.broken.Load() {
		return
	}
	part, err := l.spill.write(l.buf)
	if err != nil {
		// A full temporary folder costs memory, not the measurement.
		l.spill.broken.Store(true)
		return
	}
	l.parts = append(l.parts, part)
	l.buf = l.buf[:0]
}

// read unpacks all events behind dst.
func (l *eventLog) read(dst measure.Events) (measure.Events, error) {
	packed := l.buf
	if len(l.parts) > 0 {
		packed = nil
		for _, part := range l.parts {
			b := make([]byte, part.length)
			if _, err := l.spill.file.ReadAt(b, part.offset); err != nil {
				return dst, fmt.Errorf("load: read events back: %w", err)
			}
			packed = append(packed, b...)
		}
		packed = append(packed, l.buf...)
	}
	var at time.Duration
	for len(packed) > 0 {
		gap, n := binary.Uvarint(packed)
		tokens, m := binary.Uvarint(packed[max(n, 0):])
		if n <= 0 || m <= 0 {
			return dst, errors.New("load: packed events are damaged")
		}
		packed = packed[n+m:]
		at += time.Duration(gap)
		dst = append(dst, measure.Event{At: at, Tokens: int(tokens)})
	}
	return dst, nil
}

// spill is a file without a name for events of long streams. It is made when
// the first stream needs it.
type spill struct {
	mu     sync.Mutex
	file   *os.File
	end    int64
	broken atomic.Bool
}

func (s *spill) write(b []byte) (span, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		f, err := os.CreateTemp("", "glm46-events-*")
		if err != nil {
			return span{}, fmt.Errorf("load: temporary file for events: %w", err)
		}
		// Nobody else needs it, and nothing is left after a crash.
		if err := os.Remove(f.Name()); err != nil {
			f.Close()
			return span{}, fmt.Errorf("load: temporary file %s: %w", filepath.Base(f.Name()), err)
		}
		s.file = f
	}
	n, err := s.file.WriteAt(b, s.end)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return span{}, fmt.Errorf("load: temporary file for events: %w", err)
	}
	part := span{s.end, int64(n)}
	s.end += part.length
	return part, nil
}

func (s *spill) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
