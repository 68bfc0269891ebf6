package measure

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// frameBytes of lines are written at the latest, whatever Flush does.
const frameBytes = 1 << 20

// LineWriter writes JSON lines into a zstd file whose frames are whole: every
// Flush is one frame in one write, so that a crash loses at most what came
// since the last Flush and never leaves half a line to a reader. It is safe for
// concurrent use. The first failure stays: all later calls return it.
type LineWriter struct {
	mu    sync.Mutex
	f     *os.File
	enc   *zstd.Encoder
	lines []byte
	frame []byte
	err   error
}

// CreateLines makes the file, which must not exist.
func CreateLines(path string) (*LineWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	// One goroutine and a small window: the writer shares its cores with the
	// measurement.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("records: %w", err)
	}
	return &LineWriter{f: f, enc: enc}, nil
}

// Record appends one request. It makes a LineWriter a load.Recorder.
func (w *LineWriter) Record(r *Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	lines, err := r.AppendJSON(w.lines)
	if err != nil {
		return err
	}
	w.lines = append(lines, '\n')
	return w.full()
}

// Line appends any value as one JSON line (server and GPU series).
func (w *LineWriter) Line(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("line: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.lines = append(append(w.lines, line...), '\n')
	return w.full()
}

func (w *LineWriter) full() error {
	if len(w.lines) < frameBytes {
		return nil
	}
	return w.flush()
}

// Flush writes what came since the last Flush as one frame.
func (w *LineWriter) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flush()
}

func (w *LineWriter) flush() error {
	if w.err != nil || len(w.lines) == 0 {
		return w.err
	}
	w.frame = w.enc.EncodeAll(w.lines, w.frame[:0])
	w.lines = w.lines[:0]
	if cap(w.lines) > 4*frameBytes {
		w.lines, w.frame = nil, w.frame[:0:0]
	}
	if _, err := w.f.Write(w.frame); err != nil {
		w.err = fmt.Errorf("records: %w", err)
	}
	return w.err
}

// Close flushes, syncs and closes. A second Close returns what the first did.
func (w *LineWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		if errors.Is(w.err, errClosed) {
			return nil
		}
		return w.err
	}
	err := errors.Join(w.flush(), w.f.Sync(), w.f.Close(), w.enc.Close())
	w.f = nil
	if w.err == nil {
		w.err = err
	}
	if w.err == nil {
		w.err = errClosed
		return nil
	}
	return w.err
}

var errClosed = errors.New("records: the file is closed")

// LineError is a line of a record file that cannot be read.
type LineError struct {
	Path string
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// OpenRecords gives the records of requests.jsonl.zst. A file cut off by a
// crash yields its whole records and no error; a damaged line is a *LineError.
func OpenRecords(path string) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	f.Close()
	return func() iter.Seq2[*Record, error] {
		return func(yield func(*Record, error) bool) {
			f, err := os.Open(path)
			if err != nil {
				yield(nil, fmt.Errorf("records: %w", err))
				return
			}
			defer f.Close()
			readRecords(f, path, yield)
		}
	}, nil
}

// ReadRecords gives the records of a zstd stream, once.
func ReadRecords(r io.Reader, name string) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) { readRecords(r, name, yield) }
}

// maxLineBytes holds a record of four million events.
const maxLineBytes = 128 << 20

func readRecords(r io.Reader, name string, yield func(*Record, error) bool) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		yield(nil, fmt.Errorf("%s: %w", name, err))
		return
	}
	defer dec.Close()
	in := bufio.NewReaderSize(dec, 256<<10)
	var (
		record Record
		line   []byte
	)
	for n := 1; ; n++ {
		line = line[:0]
		for {
			part, err := in.ReadSlice('\n')
			line = append(line, part...)
			if err == bufio.ErrBufferFull && len(line) < maxLineBytes {
				continue
			}
			if err == bufio.ErrBufferFull {
				yield(nil, &LineError{name, n, fmt.Errorf("longer than %d bytes", maxLineBytes)})
				return
			}
			if err != nil {
				// The end, or where a crash cut the file: half a frame or half a
				// line carry no record.
				if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
					yield(nil, &LineError{name, n, err})
				}
				return
			}
			break
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := ParseRecord(line, &record); err != nil {
			yield(nil, &LineError{name, n, err})
			return
		}
		if !yield(&record, nil) {
			return
		}
	}
}

// Join gives the records of several segments of one level, numbered in order.
func Join(segments ...Source) Source {
	return func() iter.Seq2[*Record, error] {
		return func(yield func(*Record, error) bool) {
			for i, segment := range segments {
				for r, err := range segment() {
					if err != nil {
						yield(nil, err)
						return
					}
					r.Segment = i
					if !yield(r, nil) {
						return
					}
				}
			}
		}
	}
}
