package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glm46/glm46/harness/quality"
	"github.com/glm46/glm46/harness/result"
)

// fill chooses the starts that a row shows and takes its figures from them.
//
// Figures are means only over starts of one kind: the same data, model, vLLM
// version and mock (one resume key). The kind with a valid start wins, then the
// newest; what is left out is said in the notes.
func fill(row *Row, starts []result.StartResult) {
	if len(starts) == 0 {
		row.Status = Status{Kind: StatusPending}
		return
	}
	kinds := byKind(starts)
	shown := kinds[0]
	for _, k := range kinds[1:] {
		if better(k, shown) {
			shown = k
		}
	}
	if n := len(starts) - len(shown); n > 0 {
		row.Notes = append(row.Notes, fmt.Sprintf("%s with other data, version or mock not shown", count(n, "start")))
	}
	use := slices.DeleteFunc(slices.Clone(shown), func(s result.StartResult) bool { return s.State() != result.StateValid })
	if len(use) == 0 {
		use = shown[len(shown)-1:] // the newest
		for i := len(shown) - 1; i >= 0; i-- {
			if rank(shown[i].State()) > rank(use[0].State()) {
				use = shown[i : i+1]
			}
		}
	} else if n := len(shown) - len(use); n > 0 {
		row.Notes = append(row.Notes, fmt.Sprintf("%s of this configuration not valid or not finished, not shown", count(n, "more start")))
	}
	last := use[len(use)-1]
	row.Status = statusOf(last)
	row.Starts = len(use)
	row.VLLMVersion = last.Start.VLLMVersion
	if last.Start.Node != nil {
		row.Node = last.Start.Node.Hostname
	}
	row.Quality = last.Start.Quality
	if q := row.Quality; q != nil && !(q.Status == quality.NotChecked && last.Start.Mock != nil) {
		row.Notes = append(row.Notes, "answers: "+q.String())
	}
	for _, s := range use {
		row.StartIDs = append(row.StartIDs, s.StartID)
		row.Dirs = append(row.Dirs, s.Dir)
		for _, l := range labels(s.Start.Validity) {
			if !slices.Contains(row.Labels, l) {
				row.Labels = append(row.Labels, l)
			}
		}
		for _, n := range s.Start.Notes {
			if !slices.Contains(row.Notes, n) {
				row.Notes = append(row.Notes, n)
			}
		}
	}
	if len(use) > 1 {
		row.Notes = append(row.Notes, fmt.Sprintf("mean of %d starts", len(use)))
	}
	row.modelMemory = meanMemory(use)
	row.Levels = meanLevels(use)
	for _, l := range row.Levels {
		for _, label := range l.Labels {
			if !slices.Contains(row.Labels, label) {
				row.Labels = append(row.Labels, label)
			}
		}
		if !l.Valid && l.Completed > 0 && row.Status.Kind == string(result.StateValid) {
			row.Notes = append(row.Notes, fmt.Sprintf("%s not valid (%s)", l.Name, strings.Join(l.Codes, ", ")))
		}
	}
	if l, ok := row.Level(FirstLevel); ok && l.Completed > 0 {
		row.TPS, row.LatencySeconds = &l.TPS, &l.LatencySeconds
	}
	slices.Sort(row.Labels)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// byKind parts starts by resume key, each part ordered by time.
func byKind(starts []result.StartResult) [][]result.StartResult {
	at := map[string]int{}
	var kinds [][]result.StartResult
	for _, s := range starts {
		key := s.Start.ResumeKey
		if key == "" {
			key = "start " + s.StartID // nothing to merge it by
		}
		i, ok := at[key]
		if !ok {
			i = len(kinds)
			at[key] = i
			kinds = append(kinds, nil)
		}
		kinds[i] = append(kinds[i], s)
	}
	for _, k := range kinds {
		slices.SortStableFunc(k, func(a, b result.StartResult) int { return a.Start.Created.Compare(b.Start.Created) })
	}
	return kinds
}

// rank orders states by how much a row of theirs tells.
func rank(s result.State) int {
	order := []result.State{result.StateIncomplete, result.StateFailed, result.StateRunning, result.StateInterrupted,
		result.StateRefused, result.StateNotValid, result.StateValid}
	return slices.Index(order, s)
}

// better says whether kind a is shown rather than b: by its best state, then by
// its newest start.
func better(a, b []result.StartResult) bool {
	best := func(k []result.StartResult) int {
		r := -1
		for _, s := range k {
			r = max(r, rank(s.State()))
		}
		return r
	}
	ra, rb := best(a), best(b)
	if ra != rb {
		return ra > rb
	}
	return a[len(a)-1].Start.Created.After(b[len(b)-1].Start.Created)
}

func statusOf(s result.StartResult) Status {
	st := Status{Kind: string(s.State())}
	switch s.State() {
	case result.StateRefused:
		st.Reason = oneLine(s.Start.Refused.Reason)
		if st.Reason == "" {
			st.Reason = s.Start.Refused.Class
		}
	case result.StateFailed:
		st.Reason = s.Start.Failed.Class
		if s.Start.Failed.Phase != "" {
			st.Reason += " in phase " + s.Start.Failed.Phase
		}
	case result.StateNotValid:
		st.Codes = codes(s.Start.Validity)
	case result.StateInterrupted, result.StateIncomplete, result.StateRunning:
		if p := s.Start.Progress; p != nil {
			st.Done, st.Total = p.Done, p.Total
		}
	}
	return st
}

func meanMemory(starts []result.StartResult) *float64 {
	var sum float64
	n := 0
	for _, s := range starts {
		if s.Start.Server != nil && s.Start.Server.ModelMemoryGiB > 0 {
			sum += s.Start.Server.ModelMemoryGiB
			n++
		}
	}
	if n == 0 {
		return nil
	}
	sum /= float64(n)
	return &sum
}

// meanLevels takes each level's mean over the starts that have it. A level that
// has nothing to show yet is left out.
func meanLevels(starts []result.StartResult) []Level {
	var out []Level
	for _, s := range starts {
		for _, raw := range s.Levels {
			if raw.Err != nil {
				continue
			}
			l := levelOf(raw)
			if l.Completed == 0 && !raw.Finished() {
				continue
			}
			i := slices.IndexFunc(out, func(have Level) bool { return have.Name == l.Name })
			if i < 0 {
				out = append(out, l)
				continue
			}
			out[i] = addLevel(out[i], l)
		}
	}
	slices.SortStableFunc(out, func(a, b Level) int { return result.CompareLevels(a.Name, b.Name) })
	return out
}

// addLevel puts one more start into a mean of a.Starts.
func addLevel(a, b Level) Level {
	n := float64(a.Starts)
	mix := func(x *float64, y float64) { *x = (*x*n + y) / (n + 1) }
	mix(&a.OutputThroughput, b.OutputThroughput)
	mix(&a.SteadyThroughput, b.SteadyThroughput)
	mix(&a.TPS, b.TPS)
	mix(&a.LatencySeconds, b.LatencySeconds)
	mix(&a.MeanTTFTms, b.MeanTTFTms)
	mix(&a.MeanTPOTms, b.MeanTPOTms)
	mix(&a.PromptTokens, b.PromptTokens)
	mix(&a.CompletionTokens, b.CompletionTokens)
	a.Completed += b.Completed
	a.Requests += b.Requests
	a.Valid = a.Valid && b.Valid
	for _, c := range b.Codes {
		if !slices.Contains(a.Codes, c) {
			a.Codes = append(slices.Clone(a.Codes), c)
		}
	}
	for _, c := range b.Labels {
		if !slices.Contains(a.Labels, c) {
			a.Labels = append(slices.Clone(a.Labels), c)
		}
	}
	a.Starts++
	return a
}

// oneLine makes a text fit for a table: no line ends, no control characters.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\t' {
			return ' '
		}
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ")
}
