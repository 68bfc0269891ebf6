package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/glm46/glm46"

// layers are the packages from the top down; an import goes to a later line only
// (CONTRIBUTING.md, "Where things are").
var layers = [][]string{
	{".", "bench/peers"},
	{"harness/command"},
	{"harness/selftest"},
	{"harness"},
	{"pbsgen", "pbsgen/pbstest"},
	{"pbsgen/pbs"},
	{"harness/report", "harness/predict"},
	{"harness/result"},
	{"harness/launch", "harness/node", "harness/load"},
	{"harness/measure"},
	{"harness/quality", "harness/experiment/planfile"},
	{"harness/experiment"},
	{"harness/poll"},
	{"harness/stats", "harness/fold"},
	{"mockvllm/server"},
	{"mockvllm"},
	{"mockvllm/model"},
	{"mockvllm/engine", "mockvllm/tokenizer"},
	{"mockvllm/vllm"},
	{"datasets/tokenize/compare", "datasets/internal/verifybench"},
	{"datasets/tokenize/compare/corpus"},
	{"datasets"},
	{"datasets/gen", "datasets/expand", "datasets/jsonscan"},
	{"datasets/tokenize"},
}

// pure packages know no clock, goroutine, file, socket, environment or global
// random source; time is passed in.
var pure = []string{"harness/experiment", "harness/quality", "harness/stats", "harness/fold", "mockvllm/engine", "mockvllm/model", "mockvllm/tokenizer", "mockvllm/vllm"}

// own are the only packages of ours that these may import.
var own = map[string][]string{
	"harness/experiment": {"harness/fold", "mockvllm/vllm"},
	"harness/fold":       nil,
	"harness/stats":      nil,
	"mockvllm/engine":    nil,
	"mockvllm/model":     {"mockvllm/engine", "mockvllm/vllm"},
	"mockvllm/vllm":      nil,
}

// impure are imports that no pure package has.
var impure = []string{"os", "os/exec", "os/signal", "net", "syscall", "io/ioutil", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog"}

// clocks are the names of package time that read a clock or wait.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// sources parses the files of every package that are not tests, by folder.
func sources(t *testing.T) map[string][]*ast.File {
	t.Helper()
	out := map[string][]*ast.File{}
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		out[dir] = append(out[dir], file)
		return nil
	})
	require.NoError(t, err)
	return out
}

func imports(t *testing.T, files []*ast.File) []string {
	t.Helper()
	var out []string
	for _, file := range files {
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// layerOf is the number of a package's layer, or -1.
func layerOf(dir string) int {
	return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, dir) })
}

func TestImportsGoDown(t *testing.T) {
	t.Parallel()
	for dir, files := range sources(t) {
		from := layerOf(dir)
		if from < 0 {
			t.Errorf("package %s stands in no layer: name it in layout_test.go and CONTRIBUTING.md", dir)
			continue
		}
		for _, path := range imports(t, files) {
			target, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if to := layerOf(target); to <= from {
				t.Errorf("%s imports %s, which does not stand below it", dir, target)
			}
			if allowed, ok := own[dir]; ok && !slices.Contains(allowed, target) {
				t.Errorf("%s imports %s: of ours it may import %v", dir, target, allowed)
			}
			if strings.HasPrefix(dir, "mockvllm") && strings.HasPrefix(target, "harness") {
				t.Errorf("%s imports %s: the mock knows nothing of the harness", dir, target)
			}
			if strings.HasPrefix(dir, "datasets") && !strings.HasPrefix(target, "datasets") {
				t.Errorf("%s imports %s: data sets know nothing of the rest", dir, target)
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	t.Parallel()
	all := sources(t)
	for _, dir := range pure {
		require.NotEmpty(t, all[dir], dir)
		for _, path := range imports(t, all[dir]) {
			if slices.Contains(impure, path) {
				t.Errorf("%s imports %s", dir, path)
			}
		}
		for _, file := range all[dir] {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
					t.Errorf("%s has a goroutine or a channel", dir)
				case *ast.SelectorExpr:
					name, ok := n.X.(*ast.Ident)
					if ok && name.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
						t.Errorf("%s reads a clock: time.%s", dir, n.Sel.Name)
					}
					// Of HTTP the facts hold the numbers, not the sockets.
					if ok && name.Name == "http" && !strings.HasPrefix(n.Sel.Name, "Status") {
						t.Errorf("%s uses http.%s", dir, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}
