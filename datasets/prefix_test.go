package datasets

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naiveShare compares every prompt with every earlier one.
func naiveShare(prompts []string) float64 {
	hit, total := 0.0, 0.0
	for i, p := range prompts {
		best := 0
		for _, q := range prompts[:i] {
			k := 0
			for k+blockBytes < len(p) && k+blockBytes < len(q) && p[k:k+blockBytes] == q[k:k+blockBytes] {
				k += blockBytes
			}
			best = max(best, k)
		}
		hit += float64(best)
		total += float64(len(p))
	}
	return hit / total
}

// The index finds what comparing all prompts finds; the sparse one is short by
// little, and never says that there is more.
func TestPrefixIndexAgainstComparing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.IntRange(1, 4).Draw(t, "groups")
		var prompts []string
		for i := range rapid.IntRange(2, 40).Draw(t, "prompts") {
			g := rapid.IntRange(0, groups-1).Draw(t, "group")
			shared := strings.Repeat(fmt.Sprintf("group %d says the same thing over again; ", g), rapid.IntRange(0, 60).Draw(t, "length"))
			prompts = append(prompts, shared+fmt.Sprintf("and prompt %d says this: ", i)+strings.Repeat("abc ", rapid.IntRange(30, 60).Draw(t, "tail")))
		}
		want := naiveShare(prompts)
		for _, dense := range []bool{true, false} {
			p := newPrefixIndex(nil, dense)
			for _, text := range prompts {
				p.add([]byte(text), int64(len(text)))
			}
			got := p.share()
			if dense && (got < want-1e-9 || got > want+1e-9) {
				t.Fatalf("dense: %v, comparing all gives %v", got, want)
			}
			if got > want+1e-9 || got < want*0.75-1e-9 {
				t.Fatalf("sparse: %v, comparing all gives %v", got, want)
			}
		}
	})
}

func TestPrefixOfManyIsExactEnough(t *testing.T) {
	p := newPrefixIndex(nil, false)
	shared := strings.Repeat("The same paragraph for every sample, again and again. ", 400)
	n := 200
	for i := range n {
		text := shared + fmt.Sprintf("Topic %d.", i)
		p.add([]byte(text), 5000)
	}
	if want := float64(n-1) / float64(n); p.share() < want-0.005 || p.share() > want {
		t.Errorf("share %v, want about %v", p.share(), want)
	}
}

func TestHashTable(t *testing.T) {
	table := hashTable{limit: 1000}
	for i := range 1000 {
		if !table.put(mix(uint64(i)), uint32(i)) {
			t.Fatalf("entry %d refused", i)
		}
	}
	if table.put(12345, 1) {
		t.Error("an entry above the limit was taken")
	}
	for i := range 2000 {
		v, ok := table.get(mix(uint64(i)))
		if ok != (i < 1000) || ok && v != uint32(i) {
			t.Fatalf("entry %d: %d, %v", i, v, ok)
		}
	}
}
