package datasets

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/glm46/glm46/datasets/expand"
	"github.com/glm46/glm46/datasets/jsonscan"
	"github.com/glm46/glm46/datasets/tokenize"
)

// Defaults of Limits.
const (
	defaultRecordBytes = 8 << 20
	defaultDepth       = 100
	defaultMaxFaults   = 100
	// maxDistinct is how many samples are remembered to find duplicates while
	// streaming: two tables of 6 MiB at most. Later samples are compared with
	// these, and the report says from which sample on.
	maxDistinct = 1 << 18
	// estimateInFull is how much text is estimated sample by sample while
	// streaming; then one sample in estimateEvery is, and the others take the
	// mean of those, by their size.
	estimateInFull = 4 << 20
	estimateEvery  = 16
)

func (l Limits) withDefaults() Limits {
	if l.RecordBytes == 0 {
		l.RecordBytes = defaultRecordBytes
	}
	if l.Depth == 0 {
		l.Depth = defaultDepth
	}
	return l
}

// findings collects faults up to a limit.
type findings struct {
	list  []Fault
	more  int64
	limit int
}

func (f *findings) add(x Fault) {
	if len(f.list) < f.limit {
		f.list = append(f.list, x)
		return
	}
	f.more++
}

// scanner reads one data set, of one file or many, and gathers what there is
// to say about it. It keeps no sample; sink may.
type scanner struct {
	ctx    context.Context
	opts   VerifyOptions
	limits Limits
	name   string
	sink   func(s *scanner, r *record)
	// wholeText: a file of plain text is one sample (folder of samples).
	wholeText bool

	faults, warnings findings
	samples          int64
	file             string // as shown
	line             int64
	formats          []string
	forms            [formCount]bool
	seed             maphash.Seed
	ids, prompts     hashTable
	prefixes         *prefixIndex
	forgot           int64 // the first sample whose id or prompt was not kept, or 0
	identical        int64
	identicalAt      []string
	promptStats      statsBuilder
	targetStats      statsBuilder
	droppedTurns     int64
	counted          countCheck
	estimated        struct{ bytes, tokens int64 }
	oddCounts        int64
	oddCountAt       string
	fits             []FitReport
	tokenizer        TokenCounter
	win              *window
	rec              record
	structural       bool // the file cannot be read on
}

// countCheck compares the file's token counts with the tokenizer's.
type countCheck struct {
	n, differ, worst int64
	worstAt          string
}

func newScanner(ctx context.Context, name string, opts VerifyOptions) *scanner {
	if opts.MaxFaults == 0 {
		opts.MaxFaults = defaultMaxFaults
	}
	s := &scanner{
		ctx: ctx, opts: opts, limits: opts.Limits.withDefaults(), name: name,
		seed: maphash.MakeSeed(), ids: hashTable{limit: maxDistinct}, prompts: hashTable{limit: maxDistinct},
		prefixes: newPrefixIndex(opts.Tokenizer, false), tokenizer: opts.Tokenizer,
	}
	s.faults.limit, s.warnings.limit = opts.MaxFaults, opts.MaxFaults
	s.win = newWindow(nil, int(s.limits.RecordBytes))
	for _, set := range []string{name, ""} {
		for _, f := range opts.Fits[set] {
			s.fits = append(s.fits, FitReport{Name: f.Name, MaxModelLen: f.MaxModelLen})
		}
	}
	return s
}

func (s *scanner) fault(line int64, field, code, what, do string) {
	s.faults.add(Fault{File: s.file, Line: line, Field: field, Code: code, What: what, Do: do})
}

func (s *scanner) warn(line int64, field, code, what, do string) {
	s.warnings.add(Fault{File: s.file, Line: line, Field: field, Code: code, What: what, Do: do})
}

func (s *scanner) report(p problem) { s.fault(s.line, p.field, p.code, p.what, p.do) }

// sums are the hashes and sizes of one file.
type sums struct {
	file, content           hash.Hash
	fileBytes, contentBytes int64
}

func (s *sums) fileHex() string { return hex.EncodeToString(s.file.Sum(nil)) }

func (s *sums) contentHex() string {
	if s.content == nil {
		return ""
	}
	return hex.EncodeToString(s.content.Sum(nil))
}

// hashingReader hashes what is read from a file.
type hashingReader struct {
	ctx context.Context
	r   io.Reader
	s   *sums
}

func (h *hashingReader) Read(p []byte) (int, error) {
	if err := h.ctx.Err(); err != nil {
		return 0, context.Cause(h.ctx)
	}
	n, err := h.r.Read(p)
	h.s.file.Write(p[:n])
	h.s.fileBytes += int64(n)
	return n, err
}

// scanFile reads one file from r. hashContent says whether the expanded bytes
// are hashed as well: the file's own hash vouches for them where a manifest
// knows both. The error is not about the data: the file could not be read.
func (s *scanner) scanFile(file string, r io.Reader, hashContent bool) (*sums, error) {
	sum := &sums{file: sha256.New()}
	if hashContent {
		sum.content = sha256.New()
	}
	raw := &hashingReader{s.ctx, r, sum}
	s.file, s.line, s.structural = file, 0, false
	ex, err := expand.NewReader(raw, expand.Limits{Bytes: s.limits.ExpandedBytes, Ratio: s.limits.Ratio})
	if err == nil {
		defer ex.Close()
		s.addFormat(ex.Formats...)
		if ex.NoChecksum {
			s.warn(0, "", "no_checksum", "the zstd frame carries no checksum: a flipped bit may go unnoticed", "compress with zstd --check (the command line tool's default)")
		}
		if len(ex.Formats) == 0 {
			sum.content = nil // the same bytes as the file's
		}
		sum.contentBytes, err = s.scanContent(ex, sum.content)
		if len(ex.Formats) == 0 {
			sum.content = sum.file
		}
	}
	if err != nil {
		if err = s.streamFault(err); err != nil {
			return sum, err
		}
	}
	if s.structural {
		// The rest of the file counts for its hash.
		if _, err := io.Copy(io.Discard, raw); err != nil {
			return sum, fmt.Errorf("read %s: %w", file, err)
		}
		sum.content, sum.contentBytes = nil, 0
	}
	return sum, nil
}

func (s *scanner) addFormat(names ...string) {
	for _, n := range names {
		if !contains(s.formats, n) {
			s.formats = append(s.formats, n)
		}
	}
}

// streamFault turns an error about the data into a fault; others it returns.
func (s *scanner) streamFault(err error) error {
	s.structural = true
	var limit *expand.LimitError
	var damage *expand.DamageError
	switch {
	case errors.As(err, &limit):
		s.fault(0, "", "limit", limit.What, limit.Do)
	case errors.As(err, &damage) && damage.Truncated:
		s.damaged("truncated", damage, "copy the file again; it is not whole")
	case errors.As(err, &damage):
		s.damaged("damaged", damage, "copy the file again, or compress the original again")
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	default:
		return fmt.Errorf("read %s: %w", s.file, err)
	}
	return nil
}

// damaged puts the damage before the faults of the file's content, which may
// come from it.
func (s *scanner) damaged(code string, err *expand.DamageError, do string) {
	at := len(s.faults.list)
	for at > 0 && s.faults.list[at-1].File == s.file {
		at--
	}
	if at < len(s.faults.list) {
		do += "; the faults below may come from this"
	}
	s.faults.list = slices.Insert(s.faults.list, at, Fault{File: s.file, Code: code, What: err.Error(), Do: do})
	if n := len(s.faults.list); n > s.faults.limit {
		s.faults.list = s.faults.list[:n-1]
		s.faults.more++
	}
}

// scanContent reads expanded bytes: an archive, or a file of records. It
// returns their number. An error is about the stream.
func (s *scanner) scanContent(ex *expand.Reader, sum hash.Hash) (int64, error) {
	if isTar(ex.Peek()) {
		return s.scanTar(ex, sum)
	}
	if len(ex.Formats) > 0 && runtime.GOMAXPROCS(0) > 1 {
		ahead := expand.NewAhead(ex)
		defer ahead.Close()
		s.win.reset(ahead, sum)
	} else {
		s.win.reset(ex, sum)
	}
	s.scanRecords(s.file)
	return s.win.n, s.win.failed()
}

// isTar says whether data begins with the header of a tar archive.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	if string(head[257:262]) == "ustar" {
		return true
	}
	// Archives from before POSIX have only the header's checksum.
	field := strings.Trim(string(head[148:156]), " \x00")
	want, err := strconv.ParseInt(field, 8, 64)
	if err != nil || want == 0 || head[0] == 0 {
		return false
	}
	got := int64(8 * ' ')
	for i, c := range head[:512] {
		if i < 148 || i >= 156 {
			got += int64(c)
		}
	}
	return got == want
}

// teeCount hashes and counts what passes.
type teeCount struct {
	r   io.Reader
	sum hash.Hash
	n   int64
}

func (t *teeCount) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	if t.sum != nil {
		t.sum.Write(p[:n])
	}
	return n, err
}

// maxMembers bounds an archive's members.
const maxMembers = 1_000_000

// scanTar reads every file of an archive, in order.
func (s *scanner) scanTar(ex *expand.Reader, sum hash.Hash) (int64, error) {
	s.addFormat("tar")
	archive := s.file
	defer func() { s.file = archive }()
	in := &teeCount{r: ex, sum: sum}
	tr := tar.NewReader(in)
	found := 0
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		s.file, s.line = archive, 0
		if err != nil {
			var limit *expand.LimitError
			var damage *expand.DamageError
			if s.ctx.Err() != nil || errors.As(err, &limit) || errors.As(err, &damage) {
				return in.n, err
			}
			s.structural = true
			code, do := "damaged", "make the archive again"
			if errors.Is(err, io.ErrUnexpectedEOF) {
				code, do = "truncated", "copy the file again; it is not whole"
			}
			s.fault(0, "", code, fmt.Sprintf("the tar archive is damaged after %d files: %v", n, err), do)
			return in.n, nil
		}
		if n == maxMembers {
			s.structural = true
			s.fault(0, "", "limit", fmt.Sprintf("holds more than %d files", maxMembers), "put the samples into one JSON Lines file")
			return in.n, nil
		}
		base := filepath.Base(h.Name)
		_, sparse := h.PAXRecords["GNU.sparse.major"]
		sparse = sparse || h.Typeflag == tar.TypeGNUSparse
		if h.Typeflag != tar.TypeReg && !sparse || strings.HasPrefix(base, ".") || base == ManifestFileName {
			continue
		}
		s.file = archive + "!" + showName(h.Name)
		if sparse {
			s.fault(0, "", "sparse", "is a sparse file", "make the archive again without --sparse")
			continue
		}
		found++
		if err := s.scanMember(tr); err != nil {
			return in.n, err
		}
		if s.structural {
			s.structural = false // the next member is readable
		}
	}
	s.file, s.line = archive, 0
	if found == 0 {
		s.fault(0, "", "empty", "the archive holds no files", "make it again")
	}
	// The end of an archive is two blocks; what follows belongs to the hash.
	_, err := io.Copy(io.Discard, in)
	return in.n, err
}

// scanMember reads one file of an archive. An error is one of the archive's
// own stream.
func (s *scanner) scanMember(r io.Reader) error {
	ex, err := expand.NewReader(r, expand.Limits{Bytes: s.limits.ExpandedBytes, Ratio: s.limits.Ratio})
	if err == nil {
		defer ex.Close()
		s.addFormat(ex.Formats...)
		if isTar(ex.Peek()) {
			s.fault(0, "", "nested", "is an archive inside an archive", "unpack it first")
			return nil
		}
		s.win.reset(ex, nil)
		whole := s.wholeText
		s.wholeText = true
		s.scanRecords(s.file)
		s.wholeText = whole
		err = s.win.failed()
		if err != nil && len(ex.Formats) == 0 {
			return err
		}
	}
	if err != nil {
		return s.streamFault(err)
	}
	return nil
}

// showName makes a name from an archive fit to print.
func showName(name string) string {
	q := strconv.Quote(clip(name, 200))
	return q[1 : len(q)-1]
}

// scanRecords reads the records of the stream in s.win, in the form that its
// first bytes show.
func (s *scanner) scanRecords(name string) {
	w := s.win
	before := s.samples
	faultsBefore := int64(len(s.faults.list)) + s.faults.more
	for w.end-w.start < 1<<16 && w.more() && !w.tooLong() {
	}
	if bytes.HasPrefix(w.rest(), []byte("\xef\xbb\xbf")) {
		s.warn(1, "", "bom", "begins with a byte order mark", "write UTF-8 without one: other readers refuse it")
		w.start += 3
	}
	head := w.rest()
	i := jsonscan.Space(head, 0)
	switch {
	case i == len(head):
		if w.failed() == nil && !w.tooLong() {
			s.structural = true
			what := "is empty"
			if len(head) > 1<<12 {
				what = "begins with white space only"
			}
			s.fault(0, "", "empty", what, "make the set again, or remove the file")
		}
		return
	case s.unreadable(head, name):
		return
	case textName(name) || (head[i] != '{' && head[i] != '[' && !jsonName(name)):
		s.scanText()
	case head[i] == '[':
		s.addFormat("JSON array")
		s.scanArray()
	case head[i] == '{' && s.oneOverLines():
		s.addFormat("JSON")
		s.scanValues()
	default:
		s.addFormat("JSON Lines")
		s.scanLines()
	}
	if s.samples == before && int64(len(s.faults.list))+s.faults.more == faultsBefore && w.failed() == nil {
		s.structural = true
		s.fault(0, "", "empty", "holds no samples", "make the set again, or remove the file")
	}
}

// stem strips the endings of compression from a name.
func stem(name string) string {
	for _, ext := range []string{".zst", ".gz", ".bz2", ".xz", ".tar"} {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

func jsonName(name string) bool {
	switch filepath.Ext(stem(strings.ToLower(name))) {
	case ".json", ".jsonl", ".ndjson":
		return true
	}
	return false
}

func textName(name string) bool {
	switch filepath.Ext(stem(strings.ToLower(name))) {
	case ".txt", ".text", ".md":
		return true
	}
	return false
}

// otherFormats are what is found in place of a data set, by first bytes.
var otherFormats = []struct{ magic, name, do string }{
	{"PAR1", "a Parquet file", "convert it to JSON Lines (pandas.read_parquet(f).to_json(g, orient='records', lines=True))"},
	{"ARROW1", "an Arrow file", "convert it to JSON Lines"},
	{"PK\x03\x04", "a zip archive", "unpack it"},
	{"\x04\x22\x4d\x18", "an lz4 file", "expand it with lz4 -d"},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"},
	{"Rar!", "a rar archive", "unpack it"},
	{"%PDF", "a PDF document", "extract its text first"},
	{"\x93NUMPY", "a NumPy file", "convert it to JSON Lines"},
	{"SQLite format 3", "an SQLite database", "export it as JSON Lines"},
	{"\x89PNG", "a picture", "give text"},
	{"\x80\x04\x95", "a Python pickle", "convert it to JSON Lines"},
	{"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file with git lfs pull"},
	{"<!DOCTYPE html", "a web page", "the download went wrong: fetch the file itself"},
	{"<html", "a web page", "the download went wrong: fetch the file itself"},
}

// unreadable says, with a fault, that the stream is neither JSON nor text.
func (s *scanner) unreadable(head []byte, name string) bool {
	what, do := "", ""
	for _, f := range otherFormats {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			what, do = "is "+f.name, f.do
		}
	}
	switch {
	case what != "":
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		what, do = "is UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"
	case head[0] == 0 || bytes.Count(head[:min(len(head), 512)], []byte{0}) > 8:
		what, do = "is binary data: neither JSON, text nor a known compression", "check that the file is whole and is the right one"
		for ext, format := range map[string]string{".zst": "zstd", ".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"} {
			if strings.HasSuffix(name, ext) {
				what = fmt.Sprintf("does not begin as %s data does, in spite of its name", format)
				do = "copy the file again; its beginning is damaged"
			}
		}
	default:
		i := jsonscan.Space(head, 0)
		c := head[i]
		if c < 0x20 || !utf8.Valid(head[i:min(i+utf8.UTFMax, len(head))]) && !utf8.FullRune(head[i:]) || c >= 0x80 && !startsRune(head[i:]) {
			what, do = "is binary data: neither JSON, text nor a known compression", "check that the file is whole and is the right one"
			for ext, format := range map[string]string{".zst": "zstd", ".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"} {
				if strings.HasSuffix(name, ext) {
					what = fmt.Sprintf("does not begin as %s data does, in spite of its name", format)
					do = "copy the file again; its beginning is damaged"
				}
			}
		} else {
			return false
		}
	}
	s.structural = true
	s.fault(0, "", "format", what, do)
	return true
}

func startsRune(b []byte) bool {
	r, n := utf8.DecodeRune(b)
	return r != utf8.RuneError || n > 1
}

// oneOverLines says whether the stream is JSON objects that go over several
// lines, rather than one a line.
func (s *scanner) oneOverLines() bool {
	w := s.win
	line, _, ok := w.nextLine()
	if !ok {
		return false
	}
	i := jsonscan.Space(line, 0)
	if i == len(line) {
		return true // an empty line first: judge value by value
	}
	_, _, err := jsonscan.Value(line, i, s.limits.Depth)
	if err == nil || !err.Short {
		return false
	}
	rest := w.rest()
	if skip := jsonscan.Space(rest, 0); skip > 0 {
		w.use(skip)
	}
	_, _, err = w.value(s.limits.Depth)
	if err == nil || err.Deep {
		return true
	}
	// A broken object: if no other one begins on the second line, it was meant
	// to go over several.
	line, n, _ := w.nextLine()
	second := w.rest()[min(n, len(w.rest())):]
	i = jsonscan.Space(second, 0)
	return err.Offset >= len(line) && i < len(second) && second[i] != '{'
}

func (s *scanner) scanLines() {
	w := s.win
	for {
		if s.ctx.Err() != nil {
			w.err = context.Cause(s.ctx)
			return
		}
		line, n, ok := w.nextLine()
		s.line = w.line
		if !ok {
			if w.tooLong() {
				s.fault(w.line, "", "limit", fmt.Sprintf("the line is longer than %d MiB", s.limits.RecordBytes>>20), "write one sample a line, or raise the limit")
				w.skipLine()
				continue
			}
			return
		}
		if i := jsonscan.Space(line, 0); i < len(line) {
			s.objectLine(line, i)
		}
		w.start += n
		if n > len(line) {
			w.line++
		}
	}
}

// objectLine takes one line of JSON Lines, whose record begins at i.
func (s *scanner) objectLine(line []byte, i int) {
	if line[i] != '{' {
		s.samples++
		what := "want a JSON object, got " + startOf(line[i:])
		s.fault(s.line, "", "json", what, "write one JSON object a line")
		return
	}
	s.rec.fields.reset()
	end, err := jsonscan.Object(line, i, s.limits.Depth, s.rec.fields.member)
	if err == nil {
		if j := jsonscan.Space(line, end); j < len(line) {
			err = &jsonscan.Error{Offset: j, What: "more text after the object"}
		}
	}
	if err != nil {
		s.samples++
		s.jsonFault(line, err)
		return
	}
	s.record(line[i:end])
}

func startOf(b []byte) string {
	return strconv.Quote(clip(strings.ToValidUTF8(string(b[:min(len(b), 24)]), "?"), 20))
}

// jsonFault reports broken JSON in text, which begins on line s.line.
func (s *scanner) jsonFault(text []byte, err *jsonscan.Error) {
	line := s.line + int64(bytes.Count(text[:min(err.Offset, len(text))], newline))
	at := err.Offset - bytes.LastIndexByte(text[:min(err.Offset, len(text))], '\n')
	if err.Deep {
		s.fault(line, "", "limit", fmt.Sprintf("byte %d: nested deeper than %d", at, s.limits.Depth), "flatten the record, or raise the limit")
		return
	}
	do := "correct the line, or write the file with a JSON library"
	if err.Short {
		do = "the record is cut off: write or copy the file again"
	}
	near := text[max(0, err.Offset-12):min(len(text), err.Offset+12)]
	s.fault(line, "", "json", fmt.Sprintf("byte %d: not JSON: %s, near %q", at, err.What, strings.ToValidUTF8(string(near), "?")), do)
}

// scanValues reads objects that may go over several lines.
func (s *scanner) scanValues() {
	w := s.win
	for w.space() {
		if s.ctx.Err() != nil {
			w.err = context.Cause(s.ctx)
			return
		}
		s.line = w.line
		span, n, err := w.value(s.limits.Depth)
		if err != nil {
			s.samples++
			s.brokenValue(err)
			return
		}
		s.element(span)
		w.use(n)
	}
}

// brokenValue reports a value after which the file cannot be read on.
func (s *scanner) brokenValue(err *jsonscan.Error) {
	s.structural = true
	if s.win.tooLong() {
		s.fault(s.line, "", "limit", fmt.Sprintf("the record is longer than %d MiB", s.limits.RecordBytes>>20), "write smaller records, or raise the limit")
		return
	}
	if s.win.failed() != nil {
		return // the stream broke, not the JSON
	}
	s.jsonFault(s.win.rest(), err)
}

// element takes one JSON value as a record.
func (s *scanner) element(span jsonscan.Span) {
	if span.Kind != jsonscan.ObjectKind {
		s.samples++
		s.fault(s.line, "", "json", "want a JSON object, got "+span.Kind.String(), "write each sample as an object")
		return
	}
	s.rec.fields.reset()
	jsonscan.Object(span.Raw, 0, s.limits.Depth, s.rec.fields.member)
	s.record(span.Raw)
}

// scanArray reads the elements of one JSON array.
func (s *scanner) scanArray() {
	w := s.win
	w.space()
	w.use(1) // '['
	for first := true; ; first = false {
		if s.ctx.Err() != nil {
			w.err = context.Cause(s.ctx)
			return
		}
		if !w.space() {
			s.arrayFault("the array ends too early: no ']'", "the file is cut off: write or copy it again")
			return
		}
		c := w.rest()[0]
		if c == ']' {
			w.use(1)
			break
		}
		if !first {
			if c != ',' {
				s.arrayFault(fmt.Sprintf("not JSON: unexpected %q between samples, want ',' or ']'", rune(c)), "correct the file, or write it with a JSON library")
				return
			}
			w.use(1)
			if !w.space() {
				s.arrayFault("the array ends too early: no ']'", "the file is cut off: write or copy it again")
				return
			}
		}
		s.line = w.line
		span, n, err := w.value(s.limits.Depth)
		if err != nil {
			s.samples++
			s.brokenValue(err)
			return
		}
		s.element(span)
		w.use(n)
	}
	if w.space() {
		s.arrayFault("more text after the array", "leave one array in the file")
	}
}

func (s *scanner) arrayFault(what, do string) {
	s.structural = true
	if s.win.failed() == nil {
		s.fault(s.win.line, "", "json", what, do)
	}
}

// separators are the lines that separate samples of plain text, the surest
// first.
var separators = []string{"<|endoftext|>", "\f", "===", "---", "%"}

// scanText reads plain text.
func (s *scanner) scanText() {
	w := s.win
	sep := s.opts.Separator
	if s.wholeText && sep == "" {
		s.addFormat("plain text")
	} else {
		if sep == "" {
			sep = findSeparator(w.rest())
		}
		if sep == "" {
			s.addFormat("plain text, one sample")
		} else {
			s.addFormat(fmt.Sprintf("plain text separated by %q", sep))
		}
	}
	text, start := []byte(nil), w.line
	flush := func() {
		body := bytes.Trim(text, "\r\n")
		if len(bytes.TrimSpace(body)) > 0 {
			s.line = start
			s.textRecord(body)
		}
		text = text[:0]
	}
	for {
		line, n, ok := w.nextLine()
		if w.tooLong() || int64(len(text)+len(line)) > s.limits.RecordBytes {
			s.structural = true
			s.fault(start, "", "limit", fmt.Sprintf("the sample is longer than %d MiB", s.limits.RecordBytes>>20), "separate samples by a line, or raise the limit")
			return
		}
		if !ok {
			break
		}
		if sep != "" && string(bytes.TrimRight(line, "\r")) == sep {
			w.start += n
			w.line++
			flush()
			start = w.line
			continue
		}
		text = append(append(text, line...), '\n')
		w.start += n
		w.line++
	}
	flush()
}

func findSeparator(head []byte) string {
	for _, sep := range separators {
		for at := 0; ; {
			i := bytes.Index(head[at:], []byte(sep))
			if i < 0 {
				break
			}
			i += at
			end := i + len(sep)
			if (i == 0 || head[i-1] == '\n') && (end == len(head) || head[end] == '\n' || head[end] == '\r') {
				return sep
			}
			at = i + 1
		}
	}
	return ""
}

func (s *scanner) textRecord(body []byte) {
	s.rec.fields.reset()
	keys := s.rec.fields.keys
	buf := s.rec.buf
	s.rec = record{form: formText, text: body, buf: buf}
	s.rec.fields.keys = keys
	if i := badText(body); i >= 0 {
		s.samples++
		s.fault(s.line+int64(bytes.Count(body[:i], newline)), "", "utf8", "is not UTF-8 text", "convert it: iconv -t UTF-8")
		return
	}
	s.accept(body)
}

// badText returns the place of the first byte that is no text, or -1.
func badText(b []byte) int {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return i
	}
	if utf8.Valid(b) {
		return -1
	}
	return badUTF8(b)
}

// badUTF8 returns the place of the first byte that is not UTF-8.
func badUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// record takes a record whose members are in s.rec.fields. raw is its text.
func (s *scanner) record(raw []byte) {
	if !utf8.Valid(raw) {
		s.samples++
		i := badUTF8(raw)
		s.fault(s.line+int64(bytes.Count(raw[:i], newline)), s.fieldAt(raw, i), "utf8", fmt.Sprintf("byte %d (0x%02x) is not UTF-8", i+1, raw[i]), "write the file as UTF-8 (iconv -t UTF-8)")
		return
	}
	if !s.rec.interpret(s.limits.Depth, s.report) {
		s.samples++
		s.checkID()
		return
	}
	s.accept(raw)
}

// fieldAt names the member of an object that holds byte i.
func (s *scanner) fieldAt(raw []byte, i int) (name string) {
	jsonscan.Object(raw, 0, s.limits.Depth, func(k, v jsonscan.Span) {
		if v.At <= i && i < v.At+len(v.Raw) {
			name = strings.ToValidUTF8(clip(k.Text(), 60), "?")
		}
	})
	return name
}

// checkID reports an id that an earlier sample has.
func (s *scanner) checkID() {
	if s.rec.id == "" {
		return
	}
	key := maphash.String(s.seed, s.rec.id)
	if at, ok := s.ids.get(key); ok {
		s.fault(s.line, "id", "duplicate_id", fmt.Sprintf("%q is also the id of sample %d", clip(s.rec.id, 60), at), "give each sample an id of its own")
		return
	}
	s.keep(&s.ids, key)
}

// keep remembers the sample at hand, as long as there is room.
func (s *scanner) keep(t *hashTable, key uint64) {
	if !t.put(key, uint32(min(s.samples, 1<<32-1))) && s.forgot == 0 {
		s.forgot = s.samples
	}
}

// accept takes a good sample: s.rec, whose size on disk is raw.
func (s *scanner) accept(raw []byte) {
	r := &s.rec
	s.samples++
	s.forms[r.form] = true
	s.checkID()
	s.droppedTurns += int64(r.droppedTurns)

	s.countTokens()
	text := r.canonical()
	key := uint64(0)
	if s.prefixes.encoder == nil {
		// The prefix cache's chain is a hash of all but the last block.
		s.prefixes.add(text, r.promptTokens)
		key = s.prefixes.whole
	} else {
		key = maphash.Bytes(s.seed, text)
	}
	if at, ok := s.prompts.get(key); ok {
		s.identical++
		if len(s.identicalAt) < 3 {
			s.identicalAt = append(s.identicalAt, fmt.Sprintf("%d = %d", s.samples, at))
		}
	} else {
		s.keep(&s.prompts, key)
	}
	if s.prefixes.encoder != nil {
		s.prefixes.add(r.plain(), r.promptTokens)
	}
	s.promptStats.add(r.promptTokens, r.promptEstimated)
	s.targetStats.add(r.targetTokens, r.targetEstimated)
	s.checkFits()
	if s.sink != nil {
		s.sink(s, r)
	}
}

// countTokens fills in what the file does not say, and compares what it says.
func (s *scanner) countTokens() {
	r := &s.rec
	switch {
	case s.tokenizer != nil:
		n := int64(s.tokenizer.CountTokens(string(r.plain())))
		if r.promptTokens > 0 && !r.promptEstimated {
			s.counted.n++
			if d := n - r.promptTokens; d != 0 {
				s.counted.differ++
				if max(d, -d) > max(s.counted.worst, -s.counted.worst) {
					s.counted.worst, s.counted.worstAt = d, s.showID()
				}
			}
		} else {
			r.promptTokens, r.promptEstimated, r.promptCounted = n, false, true
		}
	case r.promptTokens == 0:
		r.promptTokens, r.promptEstimated = max(1, s.estimate()), true
	default:
		// No text has so few or so many bytes for each token.
		size := int64(len(r.canonical()))
		if size < r.promptTokens*8/10 || size > 40*(r.promptTokens+8) {
			s.oddCounts++
			if s.oddCountAt == "" {
				s.oddCountAt = fmt.Sprintf("sample %s says %d for %d bytes", s.showID(), r.promptTokens, size)
			}
		}
	}
	if r.targetTokens == 0 && r.answer != nil {
		answer, _ := jsonscan.Unquote(nil, r.answer)
		if s.tokenizer != nil {
			r.targetTokens = int64(s.tokenizer.CountTokens(string(answer)))
		} else {
			r.targetTokens, r.targetEstimated = int64(tokenize.EstimateSampled(answer)), true
		}
	}
}

// estimate estimates the tokens of a sample that does not state them. Where
// samples are kept for a run, each is looked at; where they stream by, not all.
func (s *scanner) estimate() int64 {
	r := &s.rec
	e := &s.estimated
	size := int64(len(r.canonical()))
	if s.sink == nil && e.bytes > estimateInFull && s.samples%estimateEvery != 0 {
		return int64(float64(size)*float64(e.tokens)/float64(e.bytes) + 0.5)
	}
	n := int64(tokenize.EstimateSampled(r.plain()))
	e.bytes += size
	e.tokens += n
	return n
}

// showID names the sample for a message.
func (s *scanner) showID() string {
	if s.rec.id != "" {
		return strconv.Quote(clip(s.rec.id, 60))
	}
	return strconv.FormatInt(s.samples, 10)
}

func (s *scanner) checkFits() {
	r := &s.rec
	for i := range s.fits {
		f := &s.fits[i]
		over := r.promptTokens + max(r.targetTokens, 1) - int64(f.MaxModelLen)
		if over <= 0 {
			continue
		}
		if r.promptTokens >= int64(f.MaxModelLen) {
			f.Impossible++
		} else {
			f.Capped++
		}
		f.WorstOverTokens = max(f.WorstOverTokens, over)
		if len(f.IDs) < 5 {
			id := r.id
			if id == "" {
				id = strconv.FormatInt(s.samples, 10)
			}
			f.IDs = append(f.IDs, id)
		}
	}
}

// info names what counted the tokens.
func (s *scanner) info() TokenizerInfo {
	if s.tokenizer != nil {
		return s.tokenizer.Info()
	}
	return estimator{}.Info()
}

// format says what was recognised.
func (s *scanner) format() string {
	parts := append([]string(nil), s.formats...)
	for f := formPrompt; f < formCount; f++ {
		if s.forms[f] && f != formText {
			parts = append(parts, f.String())
		}
	}
	return strings.Join(parts, ", ")
}
