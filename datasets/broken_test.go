package datasets

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Compressors for the tests. bzip2 has no writer in Go: bz2Hello is what the
// command line tool makes of one line.
func zst(b []byte, o ...zstd.EOption) []byte {
	w, err := zstd.NewWriter(nil, o...)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func xzed(b []byte) []byte {
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err != nil {
		panic(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// bz2Hello is {"prompt":"hello bzip2"} and a line break, by bzip2 -9.
var bz2Hello = unhex(bz2HelloHex)

func tarOf(files ...string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i+1 < len(files); i += 2 {
		w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg})
		w.Write([]byte(files[i+1]))
	}
	w.Close()
	return out.Bytes()
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0x55
	return b
}

const good = `{"id":"a","prompt":"Tell me about pumps.","prompt_tokens":6,"target_tokens":100}` + "\n"

// longGood is enough for several blocks of any compressor.
func longGood() []byte {
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, `{"id":"s%d","prompt":"Sample %d asks about %x.","target_tokens":%d}`+"\n", i, i, i*7919, 10+i%90)
	}
	return []byte(b.String())
}

func chat(turns string) string { return `{"id":"c","messages":` + turns + `,"target_tokens":5}` + "\n" }

// broken is the corpus: one data set a case, each with what must be said.
var broken = []struct {
	name  string // of the file
	data  []byte
	more  map[string]string // other files of the folder
	code  string            // of the first fault
	line  int64
	field string
}{
	// Compression.
	{name: "zstd-truncated.jsonl.zst", data: zst(longGood())[:5000], code: "truncated"},
	{name: "zstd-truncated-header.jsonl.zst", data: zst([]byte(good))[:5], code: "truncated"},
	{name: "zstd-flipped.jsonl.zst", data: flip(zst(longGood()), 3000), code: "damaged"},
	{name: "zstd-checksum.jsonl.zst", data: flip(zst([]byte(good)), -1), code: "damaged"},
	{name: "zstd-tail.jsonl.zst", data: append(zst([]byte(good)), "garbage after the frame"...), code: "damaged"},
	{name: "zstd-second-frame-cut.jsonl.zst", data: append(zst([]byte(good)), zst(longGood())[:2000]...), code: "truncated"},
	{name: "zstd-only-magic.jsonl.zst", data: unhex("28b52ffd"), code: "truncated"},
	{name: "zstd-empty-frame.jsonl.zst", data: zst([]byte{}), code: "empty"},
	{name: "zstd-first-byte-lost.jsonl.zst", data: zst(longGood())[1:], code: "format"},
	{name: "zstd-long-window.jsonl.zst", data: unhex("28b52ffd04880100005d0000"), code: "limit"},
	{name: "gzip-truncated.jsonl.gz", data: gz(longGood())[:4000], code: "truncated"},
	{name: "gzip-crc.jsonl.gz", data: flip(gz([]byte(good)), -6), code: "damaged"},
	{name: "gzip-tail.jsonl.gz", data: append(gz([]byte(good)), "xx and more text"...), code: "damaged"},
	{name: "gzip-header-only.jsonl.gz", data: unhex("1f8b08"), code: "truncated"},
	{name: "bzip2-truncated.jsonl.bz2", data: bz2Hello[:len(bz2Hello)-8], code: "truncated"},
	{name: "bzip2-flipped.jsonl.bz2", data: flip(bz2Hello, 40), code: "damaged"},
	{name: "xz-truncated.jsonl.xz", data: xzed(longGood())[:3000], code: "truncated"},
	{name: "xz-flipped.jsonl.xz", data: flip(xzed(longGood()), 2000), code: "damaged"},
	{name: "xz-huge-dictionary.jsonl.xz", data: func() []byte {
		b := xzed([]byte(good))
		b[16] = 40 // dictionary of 4 GiB, in the first block's header
		return b
	}(), code: "limit"},
	{name: "three-times.jsonl.gz", data: gz(zst(gz([]byte(good)))), code: "limit"},
	// Archives.
	{name: "tar-truncated.tar", data: tarOf("a.json", good, "b.json", `{"id":"b","prompt":"x"}`)[:1200], code: "truncated"},
	{name: "tar-header.tar", data: flip(tarOf("a.json", good, "b.json", good), 1024+150), code: "damaged"},
	{name: "tar-empty.tar", data: append(tarOf("d/.hidden", "x"), make([]byte, 512)...), code: "empty"},
	{name: "tar-nested.tar", data: tarOf("a.tar", string(tarOf("b.json", good))), code: "nested"},
	{name: "tar-bad-member.tar.gz", data: gz(tarOf("ok.json", good, "part/bad.json", "{\"prompt\":\n\"x\",}")), code: "json", line: 2},
	{name: "tar-truncated-member.tar", data: tarOf("a.jsonl.zst", string(zst(longGood())[:900])), code: "truncated"},
	// Other things than data sets.
	{name: "empty.jsonl", data: []byte{}, code: "empty"},
	{name: "blank.jsonl", data: []byte("\n \n\t\n"), code: "empty"},
	{name: "parquet.jsonl", data: []byte("PAR1\x15\x04\x15\x10binary"), code: "format"},
	{name: "zip.jsonl", data: []byte("PK\x03\x04\x14\x00\x00\x00"), code: "format"},
	{name: "lfs-pointer.jsonl.zst", data: []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), code: "format"},
	{name: "html.jsonl", data: []byte("<!DOCTYPE html><html><body>404</body></html>"), code: "format"},
	{name: "utf16.jsonl", data: []byte("\xff\xfe{\x00}\x00"), code: "format"},
	{name: "binary.jsonl", data: []byte("\x00\x01\x02\x03\x04\x05\x00\x00"), code: "format"},
	{name: "text-named-json.jsonl", data: []byte("Dear reader,\nthis is no JSON.\n"), code: "json", line: 1},
	{name: "binary-text.txt", data: []byte("some text\nthen \x00 a zero\n"), code: "utf8", line: 2},
	{name: "latin1-text.txt", data: []byte("caf\xe9 au lait\n"), code: "utf8", line: 1},
	// JSON.
	{name: "cut-last-line.jsonl", data: []byte(good + `{"id":"b","prompt":"cut o`), code: "json", line: 2},
	{name: "trailing-comma.jsonl", data: []byte(good + `{"id":"b","prompt":"x",}` + "\n"), code: "json", line: 2},
	{name: "single-quotes.jsonl", data: []byte(`{'prompt':'x'}` + "\n"), code: "json", line: 1},
	{name: "two-objects.jsonl", data: []byte(good + `{"prompt":"x"}{"prompt":"y"}` + "\n"), code: "json", line: 2},
	{name: "nan.jsonl", data: []byte(`{"prompt":"x","target_tokens":NaN}` + "\n"), code: "json", line: 1},
	{name: "control-character.jsonl", data: []byte("{\"prompt\":\"a\x01b\"}\n"), code: "json", line: 1},
	{name: "bad-escape.jsonl", data: []byte(`{"prompt":"a\qb"}` + "\n"), code: "json", line: 1},
	{name: "line-is-number.jsonl", data: []byte(good + "42\n"), code: "json", line: 2},
	{name: "line-is-array.jsonl", data: []byte(good + `["x"]` + "\n"), code: "json", line: 2},
	{name: "python-dict.jsonl", data: []byte(`{"prompt":"x","target_tokens":None}` + "\n"), code: "json", line: 1},
	{name: "deep.jsonl", data: []byte(`{"prompt":"x","extra":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}\n"), code: "limit", line: 1},
	{name: "long-line.jsonl", data: []byte(good + `{"prompt":"` + strings.Repeat("x", 3<<20) + `"}` + "\n" + `{"id":"z","prompt":""}` + "\n"), code: "limit", line: 2},
	{name: "utf8.jsonl", data: []byte(good + "{\"id\":\"b\",\"prompt\":\"caf\xe9\"}\n"), code: "utf8", line: 2, field: "prompt"},
	{name: "utf8-cut.jsonl", data: []byte("{\"prompt\":\"\xe6\x97\"}\n"), code: "utf8", line: 1, field: "prompt"},
	{name: "surrogate.jsonl", data: []byte(`{"prompt":"half \ud83d pair"}` + "\n"), code: "surrogate", line: 1, field: "prompt"},
	{name: "array-cut.json", data: []byte(`[{"prompt":"x"},` + "\n" + `{"prompt":"y"}`), code: "json", line: 2},
	{name: "array-no-comma.json", data: []byte("[{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}]"), code: "json", line: 2},
	{name: "array-of-strings.json", data: []byte(`["x","y"]`), code: "json", line: 1},
	{name: "array-tail.json", data: []byte("[{\"prompt\":\"x\"}]\n[]"), code: "json", line: 2},
	{name: "array-empty.json", data: []byte(`[]`), code: "empty"},
	{name: "object-cut.json", data: []byte("{\n \"prompt\": \"x\",\n \"target"), code: "json", line: 3},
	// Records.
	{name: "no-prompt.jsonl", data: []byte(`{"id":"a","promt":"x"}` + "\n"), code: "no_prompt", line: 1, field: "prompt"},
	{name: "prompt-null.jsonl", data: []byte(`{"id":"a","prompt":null}` + "\n"), code: "no_prompt", line: 1, field: "prompt"},
	{name: "prompt-empty.jsonl", data: []byte(good + `{"id":"b","prompt":""}` + "\n"), code: "empty_prompt", line: 2, field: "prompt"},
	{name: "prompt-blank.jsonl", data: []byte(`{"id":"b","prompt":" \n\t\u0020"}` + "\n"), code: "empty_prompt", line: 1, field: "prompt"},
	{name: "prompt-number.jsonl", data: []byte(`{"id":"b","prompt":7}` + "\n"), code: "type", line: 1, field: "prompt"},
	{name: "prompt-tokens-array.jsonl", data: []byte(`{"id":"b","prompt":[1,2,3]}` + "\n"), code: "type", line: 1, field: "prompt"},
	{name: "both.jsonl", data: []byte(`{"prompt":"x","messages":[{"role":"user","content":"x"}]}` + "\n"), code: "ambiguous", line: 1, field: "prompt"},
	{name: "field-twice.jsonl", data: []byte(`{"prompt":"x","prompt":"y"}` + "\n"), code: "field_twice", line: 1, field: "prompt"},
	{name: "duplicate-id.jsonl", data: []byte(good + good), code: "duplicate_id", line: 2, field: "id"},
	{name: "id-empty.jsonl", data: []byte(`{"id":"","prompt":"x"}` + "\n"), code: "id", line: 1, field: "id"},
	{name: "id-object.jsonl", data: []byte(`{"id":{},"prompt":"x"}` + "\n"), code: "type", line: 1, field: "id"},
	{name: "count-negative.jsonl", data: []byte(`{"prompt":"x","prompt_tokens":-5}` + "\n"), code: "count", line: 1, field: "prompt_tokens"},
	{name: "count-string.jsonl", data: []byte(`{"prompt":"x","prompt_tokens":"6k"}` + "\n"), code: "type", line: 1, field: "prompt_tokens"},
	{name: "count-fraction.jsonl", data: []byte(`{"prompt":"x","target_tokens":8.5}` + "\n"), code: "count", line: 1, field: "target_tokens"},
	{name: "count-huge.jsonl", data: []byte(`{"prompt":"x","target_tokens":1e300}` + "\n"), code: "count", line: 1, field: "target_tokens"},
	{name: "target-zero.jsonl", data: []byte(`{"prompt":"x","target_tokens":0}` + "\n"), code: "count", line: 1, field: "target_tokens"},
	{name: "output-negative.jsonl", data: []byte(`{"prompt":"x","output_tokens":-1}` + "\n"), code: "count", line: 1, field: "output_tokens"},
	{name: "messages-object.jsonl", data: []byte(chat(`{"role":"user"}`)), code: "type", line: 1, field: "messages"},
	{name: "messages-empty.jsonl", data: []byte(chat(`[]`)), code: "empty_prompt", line: 1, field: "messages"},
	{name: "messages-no-role.jsonl", data: []byte(chat(`[{"content":"x"}]`)), code: "role", line: 1, field: "messages[0].role"},
	{name: "messages-role.jsonl", data: []byte(chat(`[{"role":"user","content":"x"},{"role":"robot","content":"y"}]`)), code: "role", line: 1, field: "messages[1].role"},
	{name: "messages-content.jsonl", data: []byte(chat(`[{"role":"user","content":5}]`)), code: "type", line: 1, field: "messages[0].content"},
	{name: "messages-no-content.jsonl", data: []byte(chat(`[{"role":"user"}]`)), code: "type", line: 1, field: "messages[0].content"},
	{name: "messages-picture.jsonl", data: []byte(chat(`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]`)), code: "part", line: 1, field: "messages[0].content[0]"},
	{name: "messages-string-turn.jsonl", data: []byte(chat(`["hello"]`)), code: "type", line: 1, field: "messages[0]"},
	{name: "tool-calls.jsonl", data: []byte(chat(`[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":{}}]`)), code: "type", line: 1, field: "messages[1].tool_calls"},
	{name: "sharegpt-from.jsonl", data: []byte(`{"conversations":[{"from":"martian","value":"x"}]}` + "\n"), code: "role", line: 1, field: "conversations[0].from"},
	{name: "sharegpt-no-question.jsonl", data: []byte(`{"conversations":[{"from":"gpt","value":"x"}]}` + "\n"), code: "empty_prompt", line: 1, field: "conversations"},
	{name: "sharegpt-value.jsonl", data: []byte(`{"conversations":[{"from":"human","value":null}]}` + "\n"), code: "type", line: 1, field: "conversations[0].value"},
	{name: "batch-endpoint.jsonl", data: []byte(`{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{"input":"x"}}` + "\n"), code: "endpoint", line: 1, field: "url"},
	{name: "batch-body.jsonl", data: []byte(`{"custom_id":"1","url":"/v1/completions","body":"x"}` + "\n"), code: "type", line: 1, field: "body"},
	{name: "batch-no-prompt.jsonl", data: []byte(`{"custom_id":"1","url":"/v1/completions","body":{"model":"m"}}` + "\n"), code: "no_prompt", line: 1, field: "body.prompt"},
	// Manifests.
	{name: "hash.jsonl", data: []byte(good), more: map[string]string{"manifest.json": manifestFor("hash.jsonl", strings.Repeat("0", 64), 1)}, code: "hash", field: "sha256"},
	{name: "manifest-count.jsonl", data: []byte(good), more: map[string]string{"manifest.json": manifestFor("manifest-count.jsonl", sha(good), 2)}, code: "manifest", field: "samples"},
	{name: "manifest-broken.jsonl", data: []byte(good), more: map[string]string{"manifest.json": "{"}, code: "manifest"},
	{name: "manifest-schema.jsonl", data: []byte(good), more: map[string]string{"manifest.json": `{"schema":"v99"}`}, code: "manifest", field: "schema"},
}

func sha(s string) string {
	w, _ := newTestSums(s)
	return w
}

func manifestFor(file, sum string, samples int64) string {
	m := ManifestFile{Schema: ManifestSchema, Sets: map[string]*Manifest{"x": {File: file, SHA256: sum, ContentBytes: int64(len(good)), Samples: samples}}}
	b, _ := json.Marshal(m)
	return string(b)
}

// Every broken file gets the right message. The messages themselves are in
// testdata/broken.golden, to be read by people.
func TestBrokenFiles(t *testing.T) {
	if len(broken) < 60 {
		t.Fatalf("the corpus has %d files, want at least 60", len(broken))
	}
	var golden strings.Builder
	for _, tt := range broken {
		dir := t.TempDir()
		path := filepath.Join(dir, tt.name)
		writeFile(t, path, tt.data)
		for name, text := range tt.more {
			writeFile(t, filepath.Join(dir, name), []byte(text))
		}
		opts := VerifyOptions{LoadOptions: LoadOptions{Limits: Limits{RecordBytes: 1 << 20}}}
		rep, err := Verify(context.Background(), []string{path}, opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if rep.OK() {
			t.Errorf("%s: no fault found", tt.name)
			continue
		}
		f := rep.Files[0].Faults[0]
		if f.Code != tt.code || f.Line != tt.line && tt.line != 0 || f.Field != tt.field {
			t.Errorf("%s: got code %q line %d field %q, want %q %d %q (%s)", tt.name, f.Code, f.Line, f.Field, tt.code, tt.line, tt.field, f)
		}
		if f.What == "" || f.Do == "" || !strings.HasPrefix(f.File, dir) {
			t.Errorf("%s: a fault needs file, what and do: %+v", tt.name, f)
		}
		for _, f := range rep.Files[0].Faults {
			golden.WriteString(strings.TrimPrefix(f.String(), dir+"/") + "\n")
		}
		if _, err := Load(context.Background(), path, "", opts.LoadOptions); err == nil {
			t.Errorf("%s: Load accepts what Verify refuses", tt.name)
		}
	}
	compareGolden(t, "broken.golden", golden.String())
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte(got))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s:%d:\ngot  %s\nwant %s", path, i+1, g[i], append(w, "")[min(i, len(w))])
		}
	}
	t.Fatalf("%s: %d lines, want %d", path, len(g), len(w))
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
