package datasets

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/datasets/expand"
)

// bomb compresses copies of a line once, and repeats that (concatenated frames
// are legal) until the file has size bytes.
func bomb(t testing.TB, path, line string, size int) {
	t.Helper()
	block := []byte(strings.Repeat(line, 1+8<<20/len(line)))
	var one []byte
	switch filepath.Ext(path) {
	case ".zst":
		one = zst(block)
	case ".gz":
		one = gz(block)
	case ".xz":
		one = xzed(block)
	case ".bz2":
		cmd := exec.Command("bzip2", "-9")
		cmd.Stdin = bytes.NewReader(block)
		out, err := cmd.Output()
		if err != nil {
			t.Skip("no bzip2 command to make a bomb with:", err)
		}
		one = out
	}
	if err := os.WriteFile(path, bytes.Repeat(one, 1+size/len(one)), 0o666); err != nil {
		t.Fatal(err)
	}
}

var bombs = map[string]string{
	"zeros.jsonl.zst": "\x00", "zeros.jsonl.gz": "\x00", "spaces.jsonl.xz": " ",
	"lines.jsonl.zst": bombLine, "lines.jsonl.gz": bombLine, "lines.jsonl.xz": bombLine, "lines.jsonl.bz2": bombLine,
	"line.jsonl.zst": "x", "text.txt.zst": "boom\n",
}

var bombLine = `{"prompt":"` + strings.Repeat("boom ", 200) + `"}` + "\n"

// A bomb is refused after a small part of what it expands to: a slow machine
// does not change that. BenchmarkBomb gives the time.
func TestBombs(t *testing.T) {
	for name, content := range bombs {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "lines") && os.Getenv("GLM46_LONG") != "1" {
				t.Skip("expands 192 MiB, which takes minutes under the race detector: set GLM46_LONG=1")
			}
			path := filepath.Join(t.TempDir(), name)
			bomb(t, path, content, 10<<20)
			rep, err := Verify(ctx, []string{path}, VerifyOptions{})
			require.NoError(t, err)
			f := rep.Files[0]
			if len(f.Faults) == 0 {
				t.Fatalf("accepted, %d bytes from %d", f.ContentBytes, f.Bytes)
			}
			if c := f.Faults[0].Code; c != "limit" && c != "format" && c != "empty" {
				t.Errorf("%v", f.Faults)
			}
			if strings.HasPrefix(name, "lines") && !strings.Contains(f.Faults[0].What, "times its size") {
				t.Errorf("%v", f.Faults[0])
			}
		})
	}
}

// The set of the plan's first attempts, one paragraph over and over, is no
// bomb, though it compresses 3,000 to 1.
func TestRepeatedTextIsNoBomb(t *testing.T) {
	res, _ := generate(t, GenOptions{Dataset: "64k", Kind: KindRepeat, Samples: 16})
	if ratio := float64(res.Manifest.ContentBytes) / float64(res.Manifest.Bytes); ratio < 500 {
		t.Errorf("expands only %.0f times: the test shows nothing", ratio)
	}
}

// Memory does not grow with the file. The heap is looked at while reading,
// after a collection, less what the process held before (other tests leave
// pools behind); the limit is half of what the process may take.
func TestMemoryIsBounded(t *testing.T) {
	size := int64(24 << 20)
	if os.Getenv("GLM46_LONG") == "1" {
		size = 5 << 30
	}
	path := filepath.Join(t.TempDir(), "big.jsonl.zst")
	writeBig(t, path, size)
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first only retires what pools hold
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	n := 0
	s := newScanner(ctx, "big", VerifyOptions{})
	s.sink = func(*scanner, *record) {
		if n++; n%6_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc-min(before, m.HeapAlloc))
		}
	}
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	sum, err := s.scanFile(path, f, true)
	require.NoError(t, err)
	if len(s.faults.list) > 0 || sum.contentBytes < size {
		t.Fatalf("%d bytes, faults %v", sum.contentBytes, s.faults.list[:min(3, len(s.faults.list))])
	}
	if most > 32<<20 || most == 0 {
		t.Errorf("the heap grew to %d MiB", most>>20)
	}
	t.Logf("%d samples, %d MiB, heap at most %d MiB", n, sum.contentBytes>>20, most>>20)
}

// What the bounded tables cannot hold is said, with the place from which on.
func TestLimitsOfComparingAreSaid(t *testing.T) {
	var file bytes.Buffer
	for i := range 40 {
		fmt.Fprintf(&file, `{"id":"s%d","prompt":"%s"}`+"\n", i, strings.Repeat(fmt.Sprintf("prompt %d says this ", i%30), 40))
	}
	path := filepath.Join(t.TempDir(), "x.jsonl")
	require.NoError(t, os.WriteFile(path, file.Bytes(), 0o666))
	for _, tt := range []struct {
		samples, blocks           int
		identical, from, prefixAt int64
		codes                     string
	}{
		{40, 1000, 10, 0, 0, "identical shared_prefix no_target"},
		{5, 1000, 5, 6, 0, "identical shared_prefix no_target not_compared"},
		{40, 60, 10, 0, 7, "identical shared_prefix no_target prefix_not_compared"},
	} {
		s := newScanner(ctx, "x", VerifyOptions{})
		s.ids.limit, s.prompts.limit, s.prefixes.blocks.limit = tt.samples, tt.samples, tt.blocks
		rep, err := s.scanTarget(&target{name: "x", path: path})
		require.NoError(t, err)
		var codes []string
		for _, w := range rep.Warnings {
			codes = append(codes, w.Code)
		}
		if rep.IdenticalPrompts != tt.identical || rep.NotKeptFrom != tt.from || rep.PrefixNotKeptFrom != tt.prefixAt || strings.Join(codes, " ") != tt.codes {
			t.Errorf("room for %d samples and %d blocks: %d identical, not kept from %d, blocks from %d, warnings %v", tt.samples, tt.blocks, rep.IdenticalPrompts, rep.NotKeptFrom, rep.PrefixNotKeptFrom, codes)
		}
	}
}

// writeBig writes valid samples of about 1 kB, all different, that expand to
// size bytes. Each ten are cut from a text of 1 MB at another place.
func writeBig(t testing.TB, path string, size int64) {
	t.Helper()
	var text strings.Builder
	for i := range 60_000 {
		text.WriteString(strconv.FormatUint(mix(uint64(i)), 36))
		text.WriteByte(' ')
	}
	pool := text.String()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	w, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	require.NoError(t, err)
	var line []byte
	for i, n := 0, int64(0); n < size; i++ {
		at := int(mix(uint64(i)+1e9) % uint64(len(pool)-1000))
		line = append(line[:0], `{"id":"`...)
		line = strconv.AppendInt(line, int64(i), 10)
		line = append(line, `","prompt":"`...)
		line = strconv.AppendInt(line, int64(i), 10)
		line = append(append(line, ": "...), pool[at:at+950]...)
		line = append(line, `","prompt_tokens":600,"target_tokens":128}`+"\n"...)
		_, err := w.Write(line)
		require.NoError(t, err)
		n += int64(len(line))
	}
	require.NoError(t, w.Close())
}

func FuzzVerify(f *testing.F) {
	for _, tt := range broken {
		if len(tt.data) < 4096 {
			f.Add(tt.data)
		}
	}
	for _, tt := range forms {
		f.Add(tt.data)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, fmt.Sprintf("f%d", os.Getpid()))
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		opts := VerifyOptions{LoadOptions: LoadOptions{Limits: Limits{RecordBytes: 1 << 16, ExpandedBytes: 1 << 24}}}
		rep, err := Verify(ctx, []string{path}, opts)
		if err != nil {
			t.Fatalf("error that is no fault: %v", err)
		}
		set, err := Load(ctx, path, "", opts.LoadOptions)
		if rep.OK() != (err == nil) {
			t.Fatalf("Verify says %v, Load says %v", rep.Files[0].Faults, err)
		}
		if err != nil {
			return
		}
		if int64(len(set.Samples)) != rep.Files[0].Samples || len(set.Samples) == 0 {
			t.Fatalf("%d samples loaded, %d verified", len(set.Samples), rep.Files[0].Samples)
		}
		for _, s := range set.Samples {
			if (s.Prompt == "") == (s.Messages == nil) || s.PromptTokens <= 0 || s.TargetTokens < 0 {
				t.Fatalf("sample without text or count: %+v", s)
			}
		}
		set.Info().Text()
	})
}

// Speed to reach: 600 MB/s of expanded JSON on one core (GOMAXPROCS=1).
func BenchmarkVerify(b *testing.B) {
	for _, bench := range []struct {
		name string
		o    GenOptions
	}{
		{"64k-synthetic", GenOptions{Dataset: "64k", Samples: 500}},
		{"64k-go-source", GenOptions{Dataset: "64k", Samples: 500, From: goSource()}},
		{"8k-synthetic", GenOptions{Dataset: "8k", Samples: 4000}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			if strings.Contains(bench.name, "go-source") && bench.o.From == "" {
				b.Skip("no Go source tree")
			}
			bench.o.Dir = b.TempDir()
			res, err := Generate(ctx, bench.o)
			require.NoError(b, err)
			b.SetBytes(res.Manifest.ContentBytes)
			b.ReportAllocs()
			runtime.GC()
			start := cpuSeconds(b)
			for b.Loop() {
				rep, err := Verify(ctx, []string{res.Path}, VerifyOptions{})
				if err != nil || !rep.OK() {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(res.Manifest.ContentBytes)/1e6/(cpuSeconds(b)-start), "MB/cpu-s")
		})
	}
}

// BenchmarkExpandOnly is the part of BenchmarkVerify that no parser can save.
func BenchmarkExpandOnly(b *testing.B) {
	o := GenOptions{Dataset: "64k", Samples: 500, From: goSource(), Dir: b.TempDir()}
	res, err := Generate(ctx, o)
	require.NoError(b, err)
	data, err := os.ReadFile(res.Path)
	require.NoError(b, err)
	b.SetBytes(res.Manifest.ContentBytes)
	start := cpuSeconds(b)
	for b.Loop() {
		r, err := expand.NewReader(bytes.NewReader(data), expand.Limits{})
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, r)
		require.NoError(b, err)
		r.Close()
	}
	b.ReportMetric(float64(b.N)*float64(res.Manifest.ContentBytes)/1e6/(cpuSeconds(b)-start), "MB/cpu-s")
}

// cpuSeconds is the processor time of this process: what a core does, also on
// a machine that has other work.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func goSource() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// Speed to reach: the 64k set in 5 s.
func BenchmarkGenerate64k(b *testing.B) {
	for _, from := range []string{"", goSource()} {
		name := "synthetic"
		if from != "" {
			name = "go-source"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				dir, err := os.MkdirTemp(b.TempDir(), "gen")
				require.NoError(b, err)
				_, err = Generate(ctx, GenOptions{Dataset: "64k", Dir: dir, From: from})
				require.NoError(b, err)
			}
		})
	}
}

// Speed to reach: a 10 MB bomb refused within a second.
func BenchmarkBomb(b *testing.B) {
	for name, content := range bombs {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), name)
			bomb(b, path, content, 10<<20)
			for b.Loop() {
				rep, err := Verify(ctx, []string{path}, VerifyOptions{})
				if err != nil || rep.OK() {
					b.Fatal("accepted", err)
				}
			}
		})
	}
}
