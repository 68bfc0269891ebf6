package vllm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]string{
		"0.11.1": "0.11.1", "v0.6.6.post1": "0.6.6.post1", "0.10.1rc1": "0.10.1rc1", "0.11.1+cu128": "0.11.1+cu128",
		" 0.9 ": "0.9.0", "0.11.2.dev10+g12ab": "0.11.2.dev10+g12ab", "v0.11.1rc7.dev218+gf849ee739": "0.11.1rc7.dev218+gf849ee739",
	} {
		v, err := ParseVersion(in)
		if err != nil {
			t.Errorf("ParseVersion(%q): %v", in, err)
			continue
		}
		if v.String() != want {
			t.Errorf("ParseVersion(%q) = %s, want %s", in, v, want)
		}
	}
	for _, in := range []string{"", "x", "0", "0.11.1.2", "0.0.0", "1.2.3; rm", "0.11.1+", "0.11.1 rc1 x", "99999.1.1", "0.11.-1"} {
		if v, err := ParseVersion(in); err == nil {
			t.Errorf("ParseVersion(%q) = %s, want an error", in, v)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	ordered := []string{"0.6.6", "0.6.6.post1", "0.7.0", "0.8.2", "0.10.0", "0.10.1.dev3", "0.10.1rc1.dev2", "0.10.1rc1", "0.10.1rc2", "0.10.1", "0.10.1.post1", "0.10.2", "0.11.1", "0.27.0", "1.0.0"}
	var vs []Version
	for _, s := range ordered {
		vs = append(vs, MustVersion(s))
	}
	for i, a := range vs {
		for j, b := range vs {
			got := a.Compare(b)
			if want := map[bool]int{true: -1, false: 1}[i < j]; i != j && got != want {
				t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, want)
			}
			if i == j && got != 0 {
				t.Errorf("Compare(%s, itself) = %d", a, got)
			}
		}
	}
	if MustVersion("0.11.1+cu128").Compare(MustVersion("0.11.1")) != 0 {
		t.Error("a local label changes the order")
	}
}

func genVersion() *rapid.Generator[Version] {
	return rapid.Custom(func(t *rapid.T) Version {
		v := Version{Minor: rapid.IntRange(1, 40).Draw(t, "minor"), Patch: rapid.IntRange(0, 9).Draw(t, "patch")}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 1:
			v.RC = rapid.IntRange(1, 9).Draw(t, "rc")
		case 2:
			v.Post = rapid.IntRange(1, 9).Draw(t, "post")
		case 3:
			v.Dev = rapid.IntRange(1, 900).Draw(t, "dev")
		}
		if rapid.Bool().Draw(t, "local") {
			v.Local = rapid.StringMatching(`[a-z0-9]{1,6}`).Draw(t, "label")
		}
		return v
	})
}

func TestVersionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(genVersion(), 3, 3).Draw(t, "versions")
		for _, v := range vs {
			if back, err := ParseVersion(v.String()); err != nil || back != v {
				t.Fatalf("%s reads back as %+v, %v", v, back, err)
			}
		}
		slices.SortFunc(vs, Version.Compare)
		if vs[0].Compare(vs[1]) > 0 || vs[1].Compare(vs[2]) > 0 || vs[0].Compare(vs[2]) > 0 {
			t.Fatalf("not an order: %v", vs)
		}
		if vs[0].Compare(vs[2]) != -vs[2].Compare(vs[0]) {
			t.Fatalf("not antisymmetric: %v", vs)
		}
	})
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"0.11.1", "v0.6.6.post1", "0.10.1rc1", "0.11.1+cu128", "0.1.0.dev1", "+", "v"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			return
		}
		if back, err := ParseVersion(v.String()); err != nil || back != v {
			t.Fatalf("%q: %s reads back as %s, %v", s, v, back, err)
		}
	})
}
