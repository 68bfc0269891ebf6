package pbsgen

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPackNeedsFewestJobs(t *testing.T) {
	cell := func(id string, hours float64) Cell { return Cell{ID: id, Hours: hours} }
	// First-fit decreasing needs three jobs here, two hold all.
	cells := []Cell{cell("a", 4), cell("b", 4), cell("c", 3), cell("d", 3), cell("e", 3), cell("f", 3)}
	require.Len(t, firstFit(configurations(cells), 10), 3)
	require.Len(t, Pack(cells, 10), 2)

	got := Pack(planCells(), 15.9)
	require.Equal(t, [][]string{{"1A", "1B", "2A", "2B", "3A/8k", "3B", "5B", "8B"}, {"3A/64k"}}, idsOf(got, planCells()))
}

func idsOf(jobs [][]Cell, order []Cell) [][]string {
	var out [][]string
	for _, job := range jobs {
		in := map[string]bool{}
		for _, c := range job {
			in[c.ID] = true
		}
		var list []string
		for _, c := range order {
			if in[c.ID] {
				list = append(list, c.ID)
			}
		}
		out = append(out, list)
	}
	return out
}

// Every cell is in exactly one job, no job is over the capacity unless one
// configuration alone is, configurations stay whole, and the jobs are as few as an
// exhaustive search finds.
func TestPackProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.Float64Range(1, 20).Draw(t, "capacity")
		var cells []Cell
		for i := range rapid.IntRange(1, 9).Draw(t, "n") {
			hash := rapid.IntRange(0, 7).Draw(t, "hash")
			cells = append(cells, Cell{ID: fmt.Sprint(i), ConfigHash: fmt.Sprint(hash), Hours: float64(1+hash*3%8) * 1.5})
		}
		jobs := Pack(cells, capacity)
		seen := map[string]int{}
		home := map[string]int{}
		for i, job := range jobs {
			if len(job) == 0 {
				t.Fatal("an empty job")
			}
			for _, c := range job {
				seen[c.ID]++
				if at, ok := home[c.ConfigHash]; ok && at != i {
					t.Fatalf("configuration %s is in jobs %d and %d", c.ConfigHash, at, i)
				}
				home[c.ConfigHash] = i
			}
			if hours(job) > capacity && len(configurations(job)) > 1 {
				t.Fatalf("job of %g h in %g", hours(job), capacity)
			}
		}
		if len(seen) != len(cells) {
			t.Fatalf("%d of %d cells", len(seen), len(cells))
		}
		groups := configurations(cells)
		if least := leastJobs(groups, capacity, nil); len(jobs) != least {
			t.Fatalf("%d jobs where %d do", len(jobs), least)
		}
	})
}

// leastJobs tries every way.
func leastJobs(groups [][]Cell, capacity float64, load []float64) int {
	if len(groups) == 0 {
		return len(load)
	}
	h := need(groups[0])
	best := leastJobs(groups[1:], capacity, append(append([]float64{}, load...), h))
	for i := range load {
		if load[i]+h <= capacity {
			next := append([]float64{}, load...)
			next[i] += h
			best = min(best, leastJobs(groups[1:], capacity, next))
		}
	}
	return best
}
