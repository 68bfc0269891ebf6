package poll

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLagBuckets(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 7, 8, 9, 15, 16, 17, 1000, 123456789, time.Hour, Forever} {
		var l Lags
		l.add(d)
		require.InDelta(t, float64(d), float64(l.Percentile(0.5)), float64(d)/16, "%v", d)
	}
	var l Lags
	l.add(-1)
	require.Zero(t, l.Percentile(0.5))
	require.EqualValues(t, 1, l.Count())
}

func TestLagPercentiles(t *testing.T) {
	random := rand.New(rand.NewPCG(46, 0))
	var l Lags
	require.Zero(t, l.Percentile(0.5))
	var all []time.Duration
	for range 1000 {
		d := time.Duration(random.ExpFloat64() * 1e5)
		all = append(all, d)
		l.add(d)
	}
	slices.Sort(all)
	require.EqualValues(t, 1000, l.Count())
	for _, q := range []float64{0, 0.5, 0.9, 0.99} {
		want := float64(all[int(q*1000)])
		require.InDelta(t, want, float64(l.Percentile(q)), want/8+1, "q %v", q)
	}
}

// What callers use is there on every system.
func TestSameFaceEverywhere(t *testing.T) {
	face := func(file string) (names []string) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				name = f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name + "." + name
			}
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	require.Equal(t, face("poll_linux.go"), face("poll_other.go"))
}
