// Package expand undoes compression under limits: a file of any kind costs a
// bounded amount of memory, and a bomb is refused long before it is expanded.
//
// Read first: [NewReader]. What a file is compressed with is read from its
// content, never from its name.
package expand

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Limits bound what a file may cost. Zero fields take the defaults.
type Limits struct {
	// Bytes is the most that the file may expand to; 0: DefaultBytes.
	Bytes int64
	// Ratio is the most expanded bytes for each compressed one, once
	// RatioFromBytes (or SlowRatioFromBytes) have been expanded; 0:
	// DefaultRatio.
	Ratio float64
}

// Defaults of Limits, and what they rest on: docs/datasets.md, "Limits".
const (
	DefaultBytes   = 64 << 30
	DefaultRatio   = 100
	RatioFromBytes = 192 << 20
	// SlowRatioFromBytes is for bzip2 and xz, which take a second for so much.
	SlowRatioFromBytes = 16 << 20

	// steepRatio holds much earlier, and always: no compressor makes this of
	// text that was not one line copied over and over.
	steepRatio     = 10_000
	steepFromBytes = 16 << 20

	// MaxZstdWindow is the window that a zstd frame may ask for: zstd -20.
	MaxZstdWindow = 32 << 20
	// MaxXZDict is the dictionary that an xz block may ask for: xz -9.
	MaxXZDict = 64 << 20

	// maxLayers is how often a file may be compressed.
	maxLayers = 2
)

// LimitError says that a file was refused for what it would cost.
type LimitError struct {
	What string // "expands to more than 64 GiB"
	Do   string // what to do about it
}

// Error returns What.
func (e *LimitError) Error() string { return e.What }

// DamageError says that compressed data is broken.
type DamageError struct {
	// Format is "zstd", "gzip", "bzip2" or "xz".
	Format string
	// Truncated says that the file ends too early.
	Truncated bool
	// At is the number of expanded bytes up to there.
	At int64
	// Err is what the decompressor said.
	Err error
}

// Error says what is broken.
func (e *DamageError) Error() string {
	if e.Truncated {
		return fmt.Sprintf("%s data ends too early (after %d expanded bytes)", e.Format, e.At)
	}
	return fmt.Sprintf("%s data is damaged after %d expanded bytes: %v", e.Format, e.At, e.Err)
}

func (e *DamageError) Unwrap() error { return e.Err }

// Reader gives the expanded bytes of a file. Errors of Read are *LimitError,
// *DamageError, or come from the file itself.
type Reader struct {
	// Formats are the compressions found, outermost first; empty for none.
	Formats []string
	// NoChecksum says that the first zstd frame carries no checksum, so that a
	// flipped bit may go unnoticed.
	NoChecksum bool

	top    *bufio.Reader
	layers []*layer
}

// layer is one decompressor and what went through it.
type layer struct {
	format   string
	in       *countReader
	out      io.Reader
	expanded int64
	limits   Limits
	close    func()
	err      error
}

// countReader counts what was read from a file, and keeps the file's own
// errors apart from those of the decompressor.
type countReader struct {
	r    io.Reader
	n    int64
	err  error
	tail [2]byte // the last bytes but zeros
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	seen := bytes.TrimRight(p[:n], "\x00")
	for _, b := range seen[max(0, len(seen)-2):] {
		c.tail[0], c.tail[1] = c.tail[1], b
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// peekBytes is how much is looked at to see what a file is.
const peekBytes = 4096

// NewReader looks at the beginning of src and returns its expanded bytes.
// Close releases the decompressors, not src.
func NewReader(src io.Reader, limits Limits) (*Reader, error) {
	if limits.Bytes == 0 {
		limits.Bytes = DefaultBytes
	}
	if limits.Ratio == 0 {
		limits.Ratio = DefaultRatio
	}
	r := &Reader{top: bufio.NewReaderSize(src, peekBytes)}
	for {
		head, err := r.top.Peek(peekBytes)
		if err != nil && err != io.EOF {
			r.Close()
			return nil, err
		}
		format := Sniff(head)
		if format == "" {
			return r, nil
		}
		if len(r.layers) == maxLayers {
			r.Close()
			return nil, &LimitError{fmt.Sprintf("is compressed more than %d times over", maxLayers), "expand it by hand"}
		}
		l := &layer{format: format, in: &countReader{r: r.top}, limits: limits}
		if err := l.open(head); err != nil {
			r.Close()
			return nil, err
		}
		if format == "zstd" {
			r.NoChecksum = noChecksum(head)
		}
		r.Formats = append(r.Formats, format)
		r.layers = append(r.layers, l)
		r.top = bufio.NewReaderSize(l, peekBytes)
	}
}

// Peek returns the first bytes to come, up to 4096 of them.
func (r *Reader) Peek() []byte {
	b, _ := r.top.Peek(peekBytes)
	return b
}

// Read reads expanded bytes.
func (r *Reader) Read(p []byte) (int, error) { return r.top.Read(p) }

// CompressedBytes returns how much of the file the outermost decompressor has
// read, 0 if there is none.
func (r *Reader) CompressedBytes() int64 {
	if len(r.layers) == 0 {
		return 0
	}
	return r.layers[0].in.n
}

// Close releases the decompressors.
func (r *Reader) Close() {
	for _, l := range r.layers {
		if l.close != nil {
			l.close()
		}
	}
	r.layers = nil
}

// Sniff names the compression that data begins with, or returns "".
func Sniff(head []byte) string {
	switch {
	case len(head) >= 4 && binary.LittleEndian.Uint32(head) == 0xFD2FB528,
		len(head) >= 4 && binary.LittleEndian.Uint32(head)&^0xF == 0x184D2A50:
		return "zstd"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return "gzip"
	case len(head) >= 10 && bytes.HasPrefix(head, []byte("BZh")) && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90"):
		return "bzip2"
	case bytes.HasPrefix(head, []byte{0xFD, '7', 'z', 'X', 'Z', 0}):
		return "xz"
	}
	return ""
}

func (l *layer) open(head []byte) error {
	switch l.format {
	case "zstd":
		d, err := zstd.NewReader(l.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(MaxZstdWindow), zstd.WithDecoderMaxMemory(1<<62))
		if err != nil {
			return l.damage(err)
		}
		l.out, l.close = d, d.Close
	case "gzip":
		d, err := gzip.NewReader(l.in)
		if err != nil {
			return l.damage(err)
		}
		l.out = d
	case "bzip2":
		l.out = bzip2.NewReader(l.in)
	case "xz":
		if dict := xzDict(head); dict > MaxXZDict {
			return dictLimit(dict)
		}
		d, err := xz.NewReader(l.in)
		if err != nil {
			return l.damage(err)
		}
		l.out = d
	}
	return nil
}

func dictLimit(dict int64) error {
	return &LimitError{fmt.Sprintf("asks for a dictionary of %d MiB (limit %d)", dict>>20, MaxXZDict>>20), "compress it again, with xz -6"}
}

// xzDict returns the size of the dictionary that the first block asks for, or
// 0. Source: the .xz file format 1.1.0, 2.1.1 and 3.1.
func xzDict(head []byte) int64 {
	const header = 12
	if len(head) < header+8 || head[header] == 0 {
		return 0
	}
	flags := head[header+1]
	i := header + 2
	for _, present := range []byte{0x40, 0x80} { // compressed and expanded size
		if flags&present == 0 {
			continue
		}
		for i < len(head) && head[i]&0x80 != 0 {
			i++
		}
		i++
	}
	// The last filter is the one with a dictionary; others are not supported
	// by the decompressor, which says so.
	if i+2 < len(head) && head[i] == 0x21 && head[i+1] == 1 {
		if n, err := lzma.DecodeDictCap(head[i+2]); err == nil {
			return n
		}
	}
	return 0
}

// noChecksum says whether the zstd frame that data begins with has no checksum.
func noChecksum(head []byte) bool {
	var h zstd.Header
	return h.Decode(head) == nil && !h.Skippable && !h.HasCheckSum
}

func (l *layer) damage(err error) error {
	if l.in.err != nil {
		return l.in.err // the file could not be read
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return &LimitError{fmt.Sprintf("asks for a window above %d MiB", MaxZstdWindow>>20), "compress it again, with zstd -19 and without --long"}
	}
	return &DamageError{Format: l.format, Truncated: errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF, At: l.expanded, Err: err}
}

// Read expands and checks the limits.
func (l *layer) Read(p []byte) (n int, err error) {
	if l.err != nil {
		return 0, l.err
	}
	defer func() {
		// A decompressor that panics on hostile data must not end the process.
		if v := recover(); v != nil {
			l.err = &DamageError{Format: l.format, At: l.expanded, Err: fmt.Errorf("decompressor failed: %v", v)}
			n, err = 0, l.err
		}
	}()
	n, err = l.out.Read(p)
	l.expanded += int64(n)
	switch {
	// The decompressor takes a stream without its index for whole; a footer
	// ends with these letters (.xz file format 1.1.0, 2.1.2.4).
	case err == io.EOF && l.format == "xz" && string(l.in.tail[:]) != "YZ":
		err = l.damage(io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		err = l.damage(err)
	}
	if limit := l.overLimit(); limit != nil {
		n, err = 0, limit
	}
	if err != nil {
		l.err = err
	}
	return n, err
}

func (l *layer) overLimit() error {
	if l.expanded > l.limits.Bytes {
		return &LimitError{fmt.Sprintf("expands to more than %d MiB", l.limits.Bytes>>20), "split the file, or raise the limit if you trust it"}
	}
	if l.expanded < steepFromBytes {
		return nil
	}
	from := int64(RatioFromBytes)
	if l.format == "bzip2" || l.format == "xz" {
		from = SlowRatioFromBytes
	}
	ratio := float64(l.expanded) / float64(max(l.in.n, 1))
	if ratio > max(steepRatio, l.limits.Ratio) || l.expanded > from && ratio > l.limits.Ratio {
		return &LimitError{fmt.Sprintf("expands to more than %d MiB from %d bytes, %.0f times its size: a compression bomb, or one text copied over and over", l.expanded>>20, l.in.n, ratio),
			"check where the file comes from, or raise the limit if you trust it"}
	}
	return nil
}
