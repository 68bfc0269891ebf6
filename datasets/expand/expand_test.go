package expand

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compress(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "zstd":
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	case "gzip":
		w = gzip.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var text = []byte(strings.Repeat("some text that is worth compressing, number by number\n", 3000))

func TestRoundTrips(t *testing.T) {
	for _, format := range []string{"zstd", "gzip", "xz"} {
		one := compress(t, format, text)
		for name, data := range map[string][]byte{"one": one, "two frames": append(bytes.Clone(one), one...)} {
			r, err := NewReader(iotest.HalfReader(bytes.NewReader(data)), Limits{})
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			got, err := io.ReadAll(r)
			want := bytes.Repeat(text, len(data)/len(one))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %d bytes, want %d, error %v", format, name, len(got), len(want), err)
			}
			if len(r.Formats) != 1 || r.Formats[0] != format || r.CompressedBytes() == 0 {
				t.Errorf("%s, %s: formats %v", format, name, r.Formats)
			}
			r.Close()
		}
	}
	r, err := NewReader(bytes.NewReader(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) || len(r.Formats) != 0 {
		t.Errorf("plain: %d bytes, %v, formats %v", len(got), err, r.Formats)
	}
}

// Every cut of a file is found, wherever it is cut.
func TestEveryTruncationIsFound(t *testing.T) {
	for _, format := range []string{"zstd", "gzip", "xz"} {
		data := compress(t, format, text[:2000])
		for n := 12; n < len(data); n++ {
			r, err := NewReader(bytes.NewReader(data[:n]), Limits{})
			if err == nil {
				_, err = io.ReadAll(r)
				r.Close()
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("%s cut to %d of %d bytes: %v", format, n, len(data), err)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	var limit *LimitError
	read := func(data []byte, l Limits) error {
		r, err := NewReader(bytes.NewReader(data), l)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	}
	if err := read(compress(t, "zstd", text), Limits{Bytes: 1000}); !errors.As(err, &limit) || limit.Do == "" {
		t.Errorf("size: %v", err)
	}
	if err := read(compress(t, "gzip", compress(t, "zstd", compress(t, "gzip", text))), Limits{}); !errors.As(err, &limit) {
		t.Errorf("three layers: %v", err)
	}
	// The ratio matters once there is much of it only.
	zeros := make([]byte, 20<<20)
	if err := read(compress(t, "zstd", zeros[:10<<20]), Limits{}); err != nil {
		t.Errorf("10 MiB of zeros: %v", err)
	}
	bomb := bytes.Repeat(compress(t, "zstd", zeros), 15)
	if err := read(bomb, Limits{}); !errors.As(err, &limit) {
		t.Errorf("300 MiB of zeros: %v", err)
	}
	if err := read(bomb, Limits{Ratio: 1e9}); err != nil {
		t.Errorf("300 MiB of zeros, trusted: %v", err)
	}
}

// The file's own errors are not taken for damage.
func TestReadErrorOfTheFile(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, format := range []string{"zstd", "gzip", "xz"} {
		data := compress(t, format, text)
		src := io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken))
		r, err := NewReader(src, Limits{})
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		var damage *DamageError
		if !errors.Is(err, broken) || errors.As(err, &damage) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestAhead(t *testing.T) {
	big := bytes.Repeat(text, 20)
	a := NewAhead(iotest.OneByteReader(bytes.NewReader(text)))
	got, err := io.ReadAll(a)
	a.Close()
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	broken := errors.New("broken")
	a = NewAhead(io.MultiReader(bytes.NewReader(big), iotest.ErrReader(broken)))
	got, err = io.ReadAll(a)
	a.Close()
	if !errors.Is(err, broken) || !bytes.Equal(got, big) {
		t.Errorf("%d of %d bytes before the error, %v", len(got), len(big), err)
	}
	// Closed before its end, at any point: no goroutine is left (TestMain).
	for _, n := range []int{0, 1, aheadBytes, 3 * aheadBytes} {
		a = NewAhead(bytes.NewReader(big))
		io.ReadFull(a, make([]byte, n))
		a.Close()
	}
}

func FuzzReader(f *testing.F) {
	for _, format := range []string{"zstd", "gzip", "xz"} {
		f.Add(compress(f, format, text[:300]))
	}
	f.Add([]byte("BZh91AY&SY"))
	f.Add([]byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data), Limits{Bytes: 1 << 20})
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		var damage *DamageError
		var limit *LimitError
		if err != nil && !errors.As(err, &damage) && !errors.As(err, &limit) {
			t.Fatalf("an error of another kind: %v", err)
		}
	})
}
