package pbsgen

import (
	"cmp"
	"math"
	"slices"
)

// Pack divides cells among as few jobs as hold them, by predicted hours; a job holds
// at most capacity hours. Cells of one configuration stay together and count once,
// refused ones count nothing. One that alone exceeds the capacity gets a job of its
// own. Jobs come in the order of their first cells, cells in the order given.
//
// The number of jobs is the least possible up to packLimit tries of an exact search,
// which is always reached for a plan of some dozen configurations; beyond that it is
// that of first-fit decreasing.
func Pack(cells []Cell, capacity float64) [][]Cell {
	groups := configurations(cells)
	bins := firstFit(groups, capacity)
	if fewer := search(groups, capacity, len(bins)); fewer != nil {
		bins = fewer
	}
	jobs := make([][]Cell, len(bins))
	for i, bin := range bins {
		slices.Sort(bin)
		for _, g := range bin {
			jobs[i] = append(jobs[i], groups[g]...)
		}
	}
	order := map[string]int{}
	for i, c := range cells {
		order[c.ID] = i
	}
	slices.SortStableFunc(jobs, func(a, b []Cell) int { return cmp.Compare(order[a[0].ID], order[b[0].ID]) })
	return jobs
}

// packLimit bounds the exact search: a few milliseconds.
const packLimit = 200_000

// need is a configuration's time in a job.
func need(group []Cell) float64 {
	if group[0].Refused != "" {
		return 0
	}
	return group[0].Hours
}

// decreasing gives the indices of groups, longest first, ties in order.
func decreasing(groups [][]Cell) []int {
	order := make([]int, len(groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(need(groups[b]), need(groups[a])) })
	return order
}

func firstFit(groups [][]Cell, capacity float64) [][]int {
	var bins [][]int
	var load []float64
	for _, g := range decreasing(groups) {
		at := slices.IndexFunc(load, func(l float64) bool { return l+need(groups[g]) <= capacity })
		if at < 0 {
			bins, load = append(bins, nil), append(load, 0)
			at = len(bins) - 1
		}
		bins[at] = append(bins[at], g)
		load[at] += need(groups[g])
	}
	return bins
}

// search looks for fewer jobs than have; nil if there are none or the search grows
// too long.
func search(groups [][]Cell, capacity float64, have int) [][]int {
	total := 0.0
	for _, g := range groups {
		total += need(g)
	}
	if !(capacity > 0) || have <= int(math.Ceil(total/capacity)) {
		return nil
	}
	s := searcher{groups: groups, order: decreasing(groups), capacity: capacity}
	var best [][]int
	for want := have - 1; want > 0; want-- {
		s.bins, s.load = make([][]int, want), make([]float64, want)
		if !s.place(0) {
			break
		}
		best = s.bins
	}
	return best
}

type searcher struct {
	groups   [][]Cell
	order    []int
	capacity float64
	bins     [][]int
	load     []float64
	tries    int
}

// place puts the groups from the n-th on into jobs.
func (s *searcher) place(n int) bool {
	if n == len(s.order) {
		return true
	}
	g := s.order[n]
	hours := need(s.groups[g])
	for i := range s.bins {
		s.tries++
		if s.tries > packLimit {
			return false
		}
		empty := len(s.bins[i]) == 0
		if s.load[i]+hours > s.capacity && !(empty && hours > s.capacity) {
			continue
		}
		s.bins[i] = append(s.bins[i], g)
		s.load[i] += hours
		if s.place(n + 1) {
			return true
		}
		s.bins[i] = s.bins[i][:len(s.bins[i])-1]
		s.load[i] -= hours
		if empty {
			return false // all empty jobs are alike
		}
	}
	return false
}
