package result

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// LinesOptions say how soon an appended line is safe.
type LinesOptions struct {
	// Flush hands every line to the operating system before Append returns, so
	// that the end of this process loses nothing. Else it goes with its block.
	Flush bool
	// SyncEvery bounds how often the file is synced to the device, which is
	// what a node's crash leaves; 0: only at Close.
	SyncEvery time.Duration
}

// Lines is a compressed JSON Lines file (zstd) that is only appended to. A file
// whose writer died mid-way is read up to its last whole line; a writer that
// comes later adds a frame of its own.
//
// Its methods may be called from several goroutines.
type Lines struct {
	mu     sync.Mutex
	f      *os.File
	z      *zstd.Encoder
	o      LinesOptions
	buf    bytes.Buffer
	synced time.Time
	err    error
	closed bool
}

// OpenLines opens path for appending, and makes it if it is not there.
func OpenLines(path string, o LinesOptions) (*Lines, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("results: %s: %w", path, err)
	}
	return &Lines{f: f, z: z, o: o, synced: time.Now()}, nil
}

// Append writes v as one line. The first error of the file stays: a series with
// a hole would look whole.
func (l *Lines) Append(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errFinished
	}
	if l.err != nil {
		return l.err
	}
	l.buf.Reset()
	enc := json.NewEncoder(&l.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("results: %s: %w", l.f.Name(), err)
	}
	_, err := l.z.Write(l.buf.Bytes())
	if err == nil && l.o.Flush {
		err = l.z.Flush()
	}
	if now := time.Now(); err == nil && l.o.SyncEvery > 0 && now.Sub(l.synced) >= l.o.SyncEvery {
		if err = l.z.Flush(); err == nil {
			err = l.f.Sync()
		}
		l.synced = now
	}
	if err != nil {
		l.err = fmt.Errorf("results: %s: %w; check the room and quota there", l.f.Name(), err)
	}
	return l.err
}

// Sync makes all lines so far safe from a crash of the node.
func (l *Lines) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return errors.Join(l.err, l.z.Flush(), l.f.Sync())
}

// Close ends the frame and syncs the file. A second call does nothing.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return errors.Join(l.err, l.z.Close(), l.f.Sync(), l.f.Close())
}

// MaxLineBytes bounds one line when reading. A request of 64,000 tokens with
// one event a token takes about 2 MB.
const MaxLineBytes = 64 << 20

// ReadLines calls each with every whole line of a file written by [Lines], in
// order; the line is valid until each returns. n counts from 1. truncated says
// that the file ends in the middle, as after a crash; the lines before are good.
//
// It stops at the first error of each and returns it.
func ReadLines(path string, each func(n int, line []byte) error) (truncated bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("results: %w", err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return false, fmt.Errorf("results: %s: %w", path, err)
	}
	defer z.Close()
	r := bufio.NewReaderSize(z, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(r)
		switch {
		case err == nil:
			if err := each(n, line); err != nil {
				return false, err
			}
		case errors.Is(err, io.EOF) && len(line) == 0:
			return false, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return true, nil
		default:
			return true, fmt.Errorf("results: %s:%d: %w", path, n, err)
		}
	}
}

var errLongLine = fmt.Errorf("a line is longer than %d MiB", MaxLineBytes>>20)

// readLine returns a line without its end; the rest of an unfinished line comes
// with the error.
func readLine(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && long == nil {
			return part[:len(part)-1], nil
		}
		long = append(long, part...)
		switch {
		case err == nil:
			return long[:len(long)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return long, err
		case len(long) > MaxLineBytes:
			return nil, errLongLine
		}
	}
}
