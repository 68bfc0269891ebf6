package vllm

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// DefaultVersion is the vLLM version assumed when none is installed or named.
const DefaultVersion = "0.11.1"

// Version is a vLLM release as PEP 440 orders them: 0.10.1rc1 < 0.10.1 <
// 0.10.1.post1 < 0.10.2. It is comparable; the zero value means "no bound".
//
// Local ("cu128" in 0.11.1+cu128) names a build; Compare ignores it, and so do
// all facts of this package.
type Version struct {
	Major, Minor, Patch int
	// RC is the release candidate's number plus one, 0 for a final release.
	RC int
	// Post is the post release's number plus one, 0 for none.
	Post int
	// Dev is the development build's number plus one, 0 for none.
	Dev int
	// Local is the build label after "+".
	Local string
}

var versionPattern = regexp.MustCompile(
	`^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[._-]?rc(\d{1,4}))?(?:[._-]?post(\d{1,4}))?(?:[._-]?dev(\d{1,9}))?(?:\+([A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*))?$`)

// ParseVersion reads "0.11.1", "v0.6.6.post1", "0.10.1rc1", "0.11.1+cu128" or
// "0.11.2.dev10+g1234". Surrounding blanks are dropped.
//
// It fails on anything else, naming the text.
func ParseVersion(s string) (Version, error) {
	t := strings.TrimSpace(s)
	m := versionPattern.FindStringSubmatch(t)
	if m == nil {
		return Version{}, fmt.Errorf("vllm version %s: want a release such as 0.11.1, 0.6.6.post1 or 0.11.1+cu128", strconv.Quote(clip(s, 60)))
	}
	num := func(t string, add int) int {
		if t == "" {
			return 0
		}
		n, _ := strconv.Atoi(t) // at most nine digits by the pattern
		return n + add
	}
	v := Version{
		Major: num(m[1], 0), Minor: num(m[2], 0), Patch: num(m[3], 0),
		RC: num(m[4], 1), Post: num(m[5], 1), Dev: num(m[6], 1), Local: m[7],
	}
	if v.IsZero() {
		return Version{}, fmt.Errorf("vllm version %q: no such release", t)
	}
	return v, nil
}

// MustVersion is ParseVersion for constants of the program; it panics on a
// text that is not a version.
func MustVersion(s string) Version {
	v, err := ParseVersion(s)
	if err != nil {
		panic(err)
	}
	return v
}

// KnownVersions lists the releases whose facts are tested one by one, oldest
// first. Facts for releases between them follow from the dates in docs/vllm.md.
func KnownVersions() []Version {
	names := []string{"0.8.2", "0.10.0", "0.11.1", "0.14.0", "0.22.0", "0.27.0"}
	out := make([]Version, len(names))
	for i, n := range names {
		out[i] = MustVersion(n)
	}
	return out
}

// IsZero reports whether v is the zero value (no bound).
func (v Version) IsZero() bool { return v == Version{} }

// String gives the version as `vllm --version` and GET /version print it,
// without a leading v; "" for the zero value.
func (v Version) String() string {
	if v.IsZero() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.RC > 0 {
		fmt.Fprintf(&b, "rc%d", v.RC-1)
	}
	if v.Post > 0 {
		fmt.Fprintf(&b, ".post%d", v.Post-1)
	}
	if v.Dev > 0 {
		fmt.Fprintf(&b, ".dev%d", v.Dev-1)
	}
	if v.Local != "" {
		b.WriteString("+" + v.Local)
	}
	return b.String()
}

// Compare gives -1, 0 or +1 in PEP 440's order; local labels do not count.
func (v Version) Compare(w Version) int {
	return cmp.Or(
		cmp.Compare(v.Major, w.Major),
		cmp.Compare(v.Minor, w.Minor),
		cmp.Compare(v.Patch, w.Patch),
		cmp.Compare(v.stage(), w.stage()),
		cmp.Compare(v.Post, w.Post),
		cmp.Compare(lastIfZero(v.Dev), lastIfZero(w.Dev)),
	)
}

// stage orders X.Y.Z.devN before X.Y.ZrcN before X.Y.Z and its post releases.
func (v Version) stage() int {
	switch {
	case v.RC > 0:
		return v.RC
	case v.Dev > 0 && v.Post == 0:
		return -1
	}
	return math.MaxInt
}

func lastIfZero(n int) int {
	if n == 0 {
		return math.MaxInt
	}
	return n
}

// AtLeast reports whether v is release or later. release is a constant of the
// program: AtLeast panics if it is not a version.
func (v Version) AtLeast(release string) bool {
	// Servers ask for every request: the few releases named in the program are
	// parsed once.
	w, ok := releases.Load(release)
	if !ok {
		w, _ = releases.LoadOrStore(release, MustVersion(release))
	}
	return v.Compare(w.(Version)) >= 0
}

// releases caches the constants that AtLeast was asked for.
var releases sync.Map

// within reports since <= v < until; zero bounds are open.
func (v Version) within(since, until Version) bool {
	return (since.IsZero() || v.Compare(since) >= 0) && (until.IsZero() || v.Compare(until) < 0)
}

// clip shortens text for an error message to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
