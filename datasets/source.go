package datasets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/glm46/glm46/datasets/gen"
)

// SourceError says that a folder given as --from has no text to use.
type SourceError struct {
	// Dir is the folder.
	Dir string
	// What is wrong.
	What string
}

// Error says what is wrong with the folder.
func (e *SourceError) Error() string {
	return fmt.Sprintf("%s: %s; give a folder of UTF-8 text or source files", e.Dir, e.What)
}

// What of a folder is taken as text: files up to maxSourceBytes, without NUL,
// in UTF-8, with lines that a person could have written.
const (
	maxSourceBytes = 1 << 20
	minSourceBytes = 200
	maxSourceLine  = 2000
	// maxSourceFiles bounds the walk; a tree of more is used up to there.
	maxSourceFiles = 400_000
)

// skipDirs are folders whose text is odd on purpose, or not the user's.
var skipDirs = map[string]bool{
	"testdata": true, "node_modules": true, "vendor": true, "__pycache__": true,
	"fuzz": true, "corpus": true, "dist": true, "build": true, "third_party": true,
}

// binaryExts saves opening what is never text.
var binaryExts = map[string]bool{
	".a": true, ".bin": true, ".bz2": true, ".class": true, ".dll": true, ".exe": true, ".gif": true, ".gz": true, ".ico": true,
	".jar": true, ".jpeg": true, ".jpg": true, ".mp4": true, ".o": true, ".pack": true, ".pdf": true, ".png": true, ".pyc": true,
	".safetensors": true, ".so": true, ".syso": true, ".tar": true, ".tgz": true, ".ttf": true, ".wasm": true, ".webp": true,
	".woff": true, ".woff2": true, ".xz": true, ".zip": true, ".zst": true, ".golden": true, ".sum": true, ".map": true,
}

// textPool deals out pieces of a user's text files, in an order that depends
// on the seed and the tree alone.
type textPool struct {
	dir      string
	root     *os.Root
	paths    []string
	r        *gen.Rand
	maxPiece int
	at       int
	passes   int // times that the whole list was gone through
	usable   int // files that gave text in this pass
	files    int
	bytes    int64
	hash     []byte // chain over the pieces used
}

// openPool lists the text files below dir. maxPiece is the most bytes that one
// file contributes to a prompt at once.
func openPool(ctx context.Context, dir string, seed uint64, maxPiece int) (*textPool, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, &SourceError{dir, "cannot be read (" + errText(err) + ")"}
	}
	if !info.IsDir() {
		return nil, &SourceError{dir, "is not a folder"}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &SourceError{dir, "cannot be read (" + errText(err) + ")"}
	}
	p := &textPool{dir: dir, root: root, r: gen.NewRand(seed, "files", 0), maxPiece: maxPiece}
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() {
				return fs.SkipDir // a folder that may not be read
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := d.Name()
		if d.IsDir() {
			if path != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || skipDirs[name]) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasPrefix(name, ".") || binaryExts[strings.ToLower(filepath.Ext(name))] || !utf8.ValidString(path) {
			return nil
		}
		if len(p.paths) == maxSourceFiles {
			return fs.SkipAll
		}
		p.paths = append(p.paths, path)
		return nil
	})
	if err != nil {
		root.Close()
		return nil, err
	}
	gen.Shuffle(p.r, p.paths)
	return p, nil
}

func (p *textPool) close() { p.root.Close() }

// next returns the path and text of the next piece.
func (p *textPool) next() (path, text string, err error) {
	for {
		if p.at == len(p.paths) {
			if p.usable == 0 {
				return "", "", &SourceError{p.dir, fmt.Sprintf("has no usable text among %d files", len(p.paths))}
			}
			p.at, p.usable = 0, 0
			p.passes++
			gen.Shuffle(p.r, p.paths)
		}
		path := p.paths[p.at]
		p.at++
		text := p.read(path)
		if text == "" {
			continue
		}
		p.usable++
		p.files++
		p.bytes += int64(len(text))
		sum := sha256.Sum256([]byte(string(p.hash) + path + "\x00" + text))
		p.hash = sum[:]
		return path, text, nil
	}
}

// sum is a hash over the pieces dealt out so far, in hex.
func (p *textPool) sum() string { return hex.EncodeToString(p.hash) }

// read returns the text of a file, or a part of a long one from a random line
// on; "" if it is not text that a prompt would hold.
func (p *textPool) read(path string) string {
	info, err := p.root.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSourceBytes || info.Size() < minSourceBytes {
		return ""
	}
	data, err := p.root.ReadFile(path)
	if err != nil || len(data) > maxSourceBytes || !plainText(data) {
		return ""
	}
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if len(data) > p.maxPiece {
		at := p.r.IntN(len(data) - p.maxPiece)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 && at > 0 {
			at += i + 1
		}
		data = data[at:]
		if len(data) > p.maxPiece {
			data = data[:p.maxPiece]
			if i := bytes.LastIndexByte(data, '\n'); i > 0 {
				data = data[:i+1]
			}
		}
	}
	text := strings.TrimRight(strings.ToValidUTF8(string(data), ""), " \t\n")
	if len(text) < minSourceBytes {
		return ""
	}
	return text
}

// plainText says whether data is UTF-8 that a person could have written: no
// control characters, no lines of thousands of characters, not mostly figures.
func plainText(data []byte) bool {
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		return false
	}
	digits, line := 0, 0
	for _, c := range data {
		switch {
		case c == '\n':
			line = 0
			continue
		case c >= '0' && c <= '9':
			digits++
		case c < ' ' && c != '\t' && c != '\r' && c != '\f', c == 0x7f:
			return false
		}
		if line++; line > maxSourceLine {
			return false
		}
	}
	return digits*4 < len(data)
}

// filePassages makes prompts of a pool's files.
type filePassages struct {
	pool *textPool
	r    *gen.Rand
	past []string
	rep  float64
	err  error
}

func (f *filePassages) Header(label string) string {
	return "Request " + label + "\n\n" + gen.Pick(f.r, fileTasks) + "\n\n"
}

func (f *filePassages) Next() string {
	if len(f.past) > 2 && f.rep > 0 && f.r.Chance(f.rep) {
		return "The same file again, for reference:\n\n" + gen.Pick(f.r, f.past)
	}
	path, text, err := f.pool.next()
	if err != nil {
		f.err = err
		return ""
	}
	s := "File `" + path + "`:\n\n" + text + "\n\n"
	if f.rep > 0 {
		f.past = append(f.past, s)
	}
	return s
}

func (f *filePassages) Closing() string {
	return "---\n\n" + gen.Pick(f.r, fileQuestions) + "\n"
}

var fileTasks = []string{
	"Below are files from one tree, whole or in part. Read all of them before you answer.",
	"The following files belong together. Some are long, and only a part of them is shown.",
	"This is the material for your report. Paths are relative to the top of the tree.",
}

var fileQuestions = []string{
	"Explain file by file what these do, how they depend on each other, and what you would change. Answer in full detail.",
	"Write documentation for a new colleague: purpose, important names, traps, one example for each file. Leave nothing out.",
	"Review the files above. List every problem you see with its place, say why it is one, and write out the corrected text.",
	"Rewrite the most important of these files from scratch, explaining each decision, and then write tests for them.",
}
